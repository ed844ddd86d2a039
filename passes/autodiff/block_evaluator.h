// Runs a decoder block of the IR on a tensor device, op by op, recording what a tape can
// differentiate. Knows ops, not model families.
//
// It follows the interpreter (ir/interpreter.h) within float32 rounding; quantized linears multiply
// dequantized floats here, where the interpreter multiplies integers.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "ir/graph.h"
#include "passes/autodiff/tape.h"
#include "passes/stream.h"

namespace abq::passes::autodiff {

// How one run differs from the block as it stands.
struct BlockRun {
  int64_t context = 0;  // tokens a sequence; positions start at 0 in each
  // Whether attention quantizes q, k and v to its query_bits and kv_bits.
  bool quantize_attention = false;
  // Activation bits of a linear; unset or 16 = as they are. Linears that read one value at one
  // width share the quantized value.
  std::function<int(const ir::Node& linear)> input_bits;
  // What stands for a weight; unset, or null for a weight: the block's own.
  std::function<Var(ir::ValueId weight)> weight;
  // Sees operand 0 of every linear before it is quantized.
  std::function<void(const ir::Node& linear, const compute::Tensor& x)> observe_input;
  // Sees operand 0 of every linear and what the linear made of it.
  std::function<void(const ir::Node& linear, const compute::Tensor& x, const compute::Tensor& y)>
      observe_output;
};

struct BlockOutput {
  Var hidden;                      // [batch * context, hidden]
  std::vector<Var> probabilities;  // of each attention, in node order
};

class BlockEvaluator {
 public:
  // Uploads the weights that the block's nodes read. Unsupported names an op that has no meaning
  // here (embedding: not part of a block); errors of reading weights as in load_finite_weight.
  static Result<BlockEvaluator> create(compute::TensorDevice& device, const ir::Module& module,
                                       const ir::Block& block);

  // x: [batch * context, hidden].
  BlockOutput run(Tape& tape, const Var& x, const BlockRun& run) const;
  // The attention probabilities alone, without what follows them.
  std::vector<compute::Tensor> probabilities(const compute::Tensor& x, const BlockRun& run) const;

  // A run that stands before node `position`: the values that nodes from there on read.
  struct State {
    size_t position = 0;
    std::map<ir::ValueId, compute::Tensor> values;
  };
  State start(const compute::Tensor& x) const;
  // Runs nodes up to `position`, which is not behind the state's, and not that one itself.
  void advance(State& state, const BlockRun& run, size_t position) const;
  // What linear `linear` (an index into nodes) multiplies: its input, quantized where the run says
  // so. The state stands before it.
  compute::Tensor linear_input(const State& state, const BlockRun& run, int linear) const;
  // The block's result, of a state that stands behind the last node.
  const compute::Tensor& result(const State& state) const;

  // Bytes that learning takes on top of the block's weights: for `windows` windows of `context`
  // tokens, an estimate a little on the high side.
  int64_t learning_bytes(int64_t windows, int64_t context) const;

  const ir::Block& block() const { return *block_; }
  compute::TensorDevice& device() const { return *device_; }
  const compute::Tensor& weight(ir::ValueId value) const { return weights_.at(value); }
  // Runs from now on use `tensor`, of the same shape; the module keeps what it has.
  void replace_weight(ir::ValueId value, const compute::Tensor& tensor) {
    weights_.at(value) = tensor;
  }

 private:
  class Execution;

  BlockEvaluator(compute::TensorDevice& device, const ir::Block& block)
      : device_(&device), block_(&block) {}

  compute::TensorDevice* device_;
  const ir::Block* block_;
  std::map<ir::ValueId, compute::Tensor> weights_;      // a bit_linear's under its codes
  std::map<std::string, compute::Tensor> frequencies_;  // of rope, by tensor name
  std::map<ir::ValueId, size_t> last_use_;              // index of the last node that reads a value
  std::vector<bool> before_probabilities_;              // nodes that q and k depend on
};

// Writes what came of window `w` to `output`, through `window`. InvalidArgument names the first
// token that has NaN or Inf.
Status store_window(compute::TensorDevice& device, const compute::Tensor& hidden, int64_t w,
                    std::vector<float>& window, Stream& output);

// The block's outputs on every window of `input`, one window at a time; `output` has its shape. The
// context of `run` is the stream's.
Status run_block_on_stream(const BlockEvaluator& evaluator, BlockRun run, const Stream& input,
                           Stream& output);

}  // namespace abq::passes::autodiff
