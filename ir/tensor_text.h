// Tensor elements from text: values, one value for all, or seeded normal values.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "ir/types.h"

namespace abq::ir {

// Collects the elements of one dense tensor (f32, f16, bf16, i32, u8).
class TensorFiller {
 public:
  // Most elements that text may give a tensor: text is for tests and debugging, not for models.
  static constexpr int64_t kMaxElementsFromText = int64_t{1} << 26;

  // InvalidArgument, worded as what was expected, for packed types and for more elements than that.
  static Result<TensorFiller> create(const Type& type);

  // One more element; false for text that is no number or does not fit the type.
  bool append(std::string_view number);
  // All elements; false as above.
  bool fill(std::string_view number);
  // scale * standard normal, rounded to the (float) type; the same on every machine.
  void fill_normal(uint64_t seed, double scale);

  bool full() const { return missing() == 0; }
  int64_t missing() const { return count_ - appended_; }
  TensorData take() { return TensorData::owned(std::move(bytes_)); }

 private:
  TensorFiller(ElementType element, int64_t count) : element_(element), count_(count) {}
  void append_float(float value);
  template <class T>
  void append_bytes(T value);

  ElementType element_;
  int64_t count_;
  int64_t appended_ = 0;
  std::vector<std::byte> bytes_;
};

}  // namespace abq::ir
