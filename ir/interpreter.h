// The reference interpreter: gives every op its meaning; passes, runtimes and tests are judged by
// it.
//
// Floats go through compute::Device: on compute::reference_device() (Eigen, float64) nothing is
// shared with what is judged; on the CPU device, the default, calibration is fast. A bit_linear of
// quantized activations follows the numbers contract to the bit: whole numbers are multiplied as
// floats in pieces of K that hold every sum exactly, and rounded where docs/quantization.md says.
// Without that, rounding noise would move activation codes and two correct implementations would
// part by per cents at 4 bits. Modules must have passed verify().
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "compute/device.h"
#include "ir/graph.h"

namespace abq::ir {

// A matrix [rows, cols] of float32, the value of every non-weight op. Token ids are a [T, 1] matrix
// of whole numbers (exact below 2^24, more than any vocabulary has).
struct Matrix {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> data;
  // A quantize_tokens value also keeps what it was rounded to: data = row_scales[r] * integers,
  // with integers = q - zero as whole floats [rows, cols].
  std::vector<float> integers = {};
  std::vector<float> row_scales = {};

  MatrixView<float> view() { return {data.data(), rows, cols}; }
  MatrixView<const float> view() const { return {data.data(), rows, cols}; }
};
Matrix make_matrix(int64_t rows, int64_t cols);

// The value of one non-weight node. operands[i] is the value of operand i, null where that is a
// weight (its bytes come from the module). A quantize_tokens value is its dequantized matrix,
// scale * (q - zero). InvalidArgument when a weight has no data or a token id is outside the table.
Result<Matrix> evaluate(const Module& module, const Region& region, const Node& node,
                        std::span<const Matrix* const> operands,
                        const compute::Device& device = compute::cpu_device());

// W'[N, K] of a bit_linear node as float32. Corrupt when packed codes are damaged.
Result<Matrix> dequantized_weight(const Module& module, const Region& region,
                                  const Node& bit_linear);

// Sees a node before (inputs) its evaluation: `x` is operand 0.
using InputObserver = std::function<void(const Node& node, const Matrix& x)>;
// Sees a node after its evaluation.
using OutputObserver = std::function<void(const Node& node, const Matrix& y)>;

class Interpreter {
 public:
  explicit Interpreter(const compute::Device& device = compute::cpu_device()) : device_(device) {}

  void observe_inputs(InputObserver observer) { input_observer_ = std::move(observer); }
  void observe_outputs(OutputObserver observer) { output_observer_ = std::move(observer); }

  // Runs one region on one window of tokens, positions from 0, no earlier context. Values are freed
  // after their last use; float weights are read in their own type from where they are, and the
  // pages of file-backed ones are dropped after use. Errors as evaluate, with the node's name.
  Result<Matrix> run(const Module& module, const Region& region, const Matrix& x) const;
  // The embed region, from token ids; InvalidArgument names an id outside the table.
  Result<Matrix> embed(const Module& module, std::span<const int32_t> tokens) const;
  // Whole model: logits [T, V].
  Result<Matrix> logits(const Module& module, std::span<const int32_t> tokens) const;

 private:
  const compute::Device& device_;
  InputObserver input_observer_;
  OutputObserver output_observer_;
};

}  // namespace abq::ir
