// Reading a node's weights where they are, for the interpreter.
#pragma once

#include <cstddef>
#include <vector>

#include "compute/device.h"
#include "ir/graph.h"

namespace abq::ir {

// The tensor behind weight operand `i`; InvalidArgument when it has no data.
Result<const Tensor*> weight_operand(const Module& module, const Region& region, const Node& node,
                                     size_t i);

// A float tensor [N, K] for compute::Device, without a copy unless the file puts it at an odd
// place.
struct FloatWeight {
  compute::FloatMatrix matrix;
  std::vector<std::byte> aligned_copy;  // empty when `matrix` points at the tensor's own bytes
};
FloatWeight float_weight(const Tensor& tensor);

// Rows first .. first + rows of W' of a bit_linear node -> w[rows, K]. Corrupt when packed codes
// are damaged.
class QuantizedWeightReader {
 public:
  static Result<QuantizedWeightReader> create(const Module& module, const Region& region,
                                              const Node& bit_linear);
  int64_t n() const { return codes_->type.shape[0]; }
  int64_t k() const { return codes_->type.shape[1]; }
  Status read_rows(int64_t first, MatrixView<float> w) const;
  // The same rows as whole numbers, denominator * q - zero numerator, before their scales.
  Status read_integers(int64_t first, MatrixView<float> w) const;
  // Scale of group `g` of a row, over the denominator.
  float scale(int64_t row, int64_t g) const {
    return scales_[static_cast<size_t>(row * spec_.groups(k()) + g)] /
           static_cast<float>(spec_.zero_denominator());
  }
  const quant::WeightSpec& spec() const { return spec_; }
  // See TensorData::drop_pages.
  void drop_pages() const;

 private:
  Status read_row(int64_t row, std::span<float> values) const;
  Status read_integer_row(int64_t row, std::span<float> values) const;
  Status unpack_codes(int64_t row, std::span<uint8_t> codes) const;

  quant::WeightSpec spec_;
  const Tensor* codes_ = nullptr;
  std::vector<float> scales_;         // [N, G]
  std::span<const std::byte> zeros_;  // [N, G]
};

}  // namespace abq::ir
