#include "passes/autodiff/block_evaluator.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "ir/interpreter.h"
#include "ir/weight_access.h"
#include "passes/autodiff/ops.h"
#include "passes/layers.h"

namespace abq::passes::autodiff {
namespace {

using compute::Tensor;

compute::AttentionShape attention_shape(const ir::Node& node) {
  compute::AttentionShape shape;
  shape.heads = static_cast<int>(node.int_attribute("heads"));
  shape.kv_heads = static_cast<int>(node.int_attribute("kv_heads"));
  shape.head_dim = static_cast<int>(node.int_attribute("head_dim"));
  shape.window = node.int_attribute("window");
  return shape;
}

// Vectors (norm weights) become rows.
Result<Tensor> upload_weight(compute::TensorDevice& device, const ir::Module& module,
                             const ir::Block& block, ir::ValueId value) {
  ABQ_ASSIGN_OR_RETURN(const std::vector<float> values, load_finite_weight(module, block, value));
  const std::vector<int64_t>& shape = block.type(value).shape;
  const int64_t cols = shape.back();
  return device.upload(values, static_cast<int64_t>(values.size()) / cols, cols);
}

// The operand that holds a node's weight; -1 for ops without one.
int weight_operand_of(ir::Op op) {
  const bool has_weight =
      op == ir::Op::kRmsNorm || op == ir::Op::kLinear || op == ir::Op::kBitLinear;
  return has_weight ? 1 : -1;
}

// Marks the nodes that the operands q and k of any attention depend on.
std::vector<bool> nodes_before_probabilities(const ir::Block& block) {
  std::vector<bool> needed(block.nodes.size(), false);
  const auto need = [&](ir::ValueId value) {
    const int producer = block.producer(value);
    if (producer >= 0) needed[static_cast<size_t>(producer)] = true;
  };
  for (size_t i = block.nodes.size(); i-- > 0;) {
    const ir::Node& node = block.nodes[i];
    if (node.op == ir::Op::kAttention) {
      need(node.operands[0]);
      need(node.operands[1]);
    }
    if (!needed[i]) continue;
    for (const ir::ValueId operand : node.operands)
      need(operand);
  }
  for (size_t i = 0; i < needed.size(); ++i)
    if (block.nodes[i].op == ir::Op::kWeight) needed[i] = false;  // no value of its own
  return needed;
}

}  // namespace

Result<BlockEvaluator> BlockEvaluator::create(compute::TensorDevice& device,
                                              const ir::Module& module, const ir::Block& block) {
  BlockEvaluator evaluator(device, block);
  evaluator.before_probabilities_ = nodes_before_probabilities(block);
  for (size_t i = 0; i < block.nodes.size(); ++i) {
    const ir::Node& node = block.nodes[i];
    for (const ir::ValueId operand : node.operands)
      evaluator.last_use_[operand] = i;
    if (node.op == ir::Op::kEmbedding)
      return unsupported("{}: {} has no place in a block", node.name,
                         ir::op_info(node.op).mnemonic);
    if (node.op == ir::Op::kRope) {
      const std::string& name = node.string_attribute("frequencies");
      if (evaluator.frequencies_.contains(name)) continue;
      const Result<std::vector<float>> values = ir::to_float(module.tensors.at(name));
      if (!values.ok()) return values.status().with_context(name);
      evaluator.frequencies_[name] =
          device.upload(*values, 1, static_cast<int64_t>(values->size()));
    }
    const int operand = weight_operand_of(node.op);
    if (operand < 0) continue;
    const ir::ValueId weight = node.operands[static_cast<size_t>(operand)];
    if (evaluator.weights_.contains(weight)) continue;
    if (node.op == ir::Op::kBitLinear) {
      Result<ir::Matrix> values = ir::dequantized_weight(module, block, node);
      if (!values.ok()) return values.status().with_context(node.name);
      evaluator.weights_[weight] = device.upload(values->data, values->rows, values->cols);
    } else {
      ABQ_ASSIGN_OR_RETURN(evaluator.weights_[weight],
                           upload_weight(device, module, block, weight));
    }
  }
  return evaluator;
}

// One run: the values that are alive, and what each op does to them.
class BlockEvaluator::Execution {
 public:
  Execution(const BlockEvaluator& evaluator, Tape& tape, const BlockRun& run)
      : evaluator_(evaluator), tape_(tape), run_(run) {}

  void execute(const Var& x) {
    values_[evaluator_.block_->arguments.at(0)] = x;
    for (size_t i = 0; i < evaluator_.block_->nodes.size(); ++i) {
      const ir::Node& node = evaluator_.block_->nodes[i];
      if (node.op == ir::Op::kWeight) continue;
      values_[node.result] = evaluate(node);
      release_after(i);
    }
  }

  // What the probabilities depend on, and nothing else.
  void execute_probabilities(const Var& x) {
    values_[evaluator_.block_->arguments.at(0)] = x;
    for (size_t i = 0; i < evaluator_.block_->nodes.size(); ++i) {
      const ir::Node& node = evaluator_.block_->nodes[i];
      if (evaluator_.before_probabilities_[i]) {
        values_[node.result] = evaluate(node);
      } else if (node.op == ir::Op::kAttention) {
        probabilities_.push_back(probabilities(node));
      }
      release_after(i);
    }
  }

  void advance(State& state, size_t position) {
    take(state);
    for (size_t i = state.position; i < position; ++i) {
      const ir::Node& node = evaluator_.block_->nodes[i];
      if (node.op == ir::Op::kWeight) continue;
      values_[node.result] = evaluate(node);
      release_after(i);
    }
    state.position = position;
    state.values.clear();
    for (const auto& [value, var] : values_)
      state.values[value] = var->value;
  }

  compute::Tensor input_of(const State& state, const ir::Node& linear) {
    take(state);
    return linear_input(linear)->value;
  }

  Var take_result() { return values_.at(evaluator_.block_->results.at(0)); }
  std::vector<Var> take_probabilities() { return std::move(probabilities_); }

 private:
  void take(const State& state) {
    for (const auto& [value, tensor] : state.values)
      values_[value] = tape_.constant(tensor);
  }

  const Var& operand(const ir::Node& node, size_t i) const { return values_.at(node.operands[i]); }

  Var weight(const ir::Node& node) const {
    const ir::ValueId value = node.operands[1];
    if (run_.weight)
      if (Var replacement = run_.weight(value)) return replacement;
    return tape_.constant(evaluator_.weights_.at(value));
  }

  Var evaluate(const ir::Node& node) {
    switch (node.op) {
      case ir::Op::kRmsNorm:
        return rms_norm(tape_, operand(node, 0), weight(node),
                        static_cast<float>(node.float_attribute("eps")));
      case ir::Op::kLinear:
        return observed_linear(node);
      case ir::Op::kQuantizeTokens:
        return fake_quantize_tokens(tape_, operand(node, 0),
                                    static_cast<int>(node.int_attribute("bits")),
                                    operand(node, 0)->value.cols());
      case ir::Op::kBitLinear:
        return linear(tape_, operand(node, 0), weight(node));
      case ir::Op::kRope:
        return rope(tape_, operand(node, 0), static_cast<int>(node.int_attribute("head_dim")),
                    run_.context, evaluator_.frequencies_.at(node.string_attribute("frequencies")));
      case ir::Op::kHadamard:
        return hadamard(tape_, operand(node, 0), node.int_attribute("size"));
      case ir::Op::kAttention:
        return attention(node);
      case ir::Op::kSiluMul:
        return silu_mul(tape_, operand(node, 0), operand(node, 1));
      case ir::Op::kAdd:
        return add(tape_, operand(node, 0), operand(node, 1));
      case ir::Op::kWeight:
      case ir::Op::kEmbedding:
        break;  // refused by create(), or no value of its own
    }
    ABQ_CHECK(false);
    return nullptr;
  }

  Var observed_linear(const ir::Node& node) {
    if (run_.observe_input) run_.observe_input(node, operand(node, 0)->value);
    Var y = linear(tape_, linear_input(node), weight(node));
    if (run_.observe_output) run_.observe_output(node, operand(node, 0)->value, y->value);
    return y;
  }

  Var linear_input(const ir::Node& node) {
    const int bits = run_.input_bits ? run_.input_bits(node) : 16;
    const Var& x = operand(node, 0);
    if (bits >= 16) return x;
    Var& quantized = quantized_[{node.operands[0], bits}];
    if (!quantized) quantized = fake_quantize_tokens(tape_, x, bits, x->value.cols());
    return quantized;
  }

  Var probabilities(const ir::Node& node) {
    const compute::AttentionShape shape = attention_shape(node);
    const Var q = heads(node, 0, shape, "query_bits");
    const Var k = heads(node, 1, shape, "kv_bits");
    return attention_weights(tape_, shape, run_.context, q, k);
  }

  Var attention(const ir::Node& node) {
    const compute::AttentionShape shape = attention_shape(node);
    probabilities_.push_back(probabilities(node));
    return attention_mix(tape_, shape, run_.context, probabilities_.back(),
                         heads(node, 2, shape, "kv_bits"));
  }

  // An operand of attention, quantized per token and head where the run and its width ask for it.
  Var heads(const ir::Node& node, size_t i, const compute::AttentionShape& shape,
            const std::string& bits_attribute) {
    const int64_t bits = run_.quantize_attention ? node.int_attribute(bits_attribute) : 16;
    if (bits >= 16) return operand(node, i);
    return fake_quantize_tokens(tape_, operand(node, i), static_cast<int>(bits), shape.head_dim);
  }

  void release_after(size_t index) {
    for (const ir::ValueId operand : evaluator_.block_->nodes[index].operands) {
      if (evaluator_.last_use_.at(operand) != index || operand == evaluator_.block_->results[0])
        continue;
      values_.erase(operand);
      std::erase_if(quantized_, [&](const auto& entry) { return entry.first.first == operand; });
    }
  }

  const BlockEvaluator& evaluator_;
  Tape& tape_;
  const BlockRun& run_;
  std::map<ir::ValueId, Var> values_;
  std::map<std::pair<ir::ValueId, int>, Var> quantized_;  // by value and bits
  std::vector<Var> probabilities_;
};

BlockOutput BlockEvaluator::run(Tape& tape, const Var& x, const BlockRun& run) const {
  ABQ_CHECK(run.context > 0 && x->value.rows() % run.context == 0);
  Execution execution(*this, tape, run);
  execution.execute(x);
  return {execution.take_result(), execution.take_probabilities()};
}

std::vector<Tensor> BlockEvaluator::probabilities(const Tensor& x, const BlockRun& run) const {
  ABQ_CHECK(run.context > 0 && x.rows() % run.context == 0);
  Tape tape(*device_);
  Execution execution(*this, tape, run);
  execution.execute_probabilities(tape.constant(x));
  std::vector<Tensor> tensors;
  for (const Var& p : execution.take_probabilities())
    tensors.push_back(p->value);
  return tensors;
}

BlockEvaluator::State BlockEvaluator::start(const Tensor& x) const {
  return {0, {{block_->arguments.at(0), x}}};
}

void BlockEvaluator::advance(State& state, const BlockRun& run, size_t position) const {
  ABQ_CHECK(run.context > 0 && state.position <= position && position <= block_->nodes.size());
  Tape tape(*device_);
  Execution(*this, tape, run).advance(state, position);
}

Tensor BlockEvaluator::linear_input(const State& state, const BlockRun& run, int linear) const {
  const ir::Node& node = block_->nodes[static_cast<size_t>(linear)];
  ABQ_CHECK(node.op == ir::Op::kLinear && state.position <= static_cast<size_t>(linear));
  Tape tape(*device_);
  return Execution(*this, tape, run).input_of(state, node);
}

const Tensor& BlockEvaluator::result(const State& state) const {
  ABQ_CHECK(state.position == block_->nodes.size());
  return state.values.at(block_->results.at(0));
}

int64_t BlockEvaluator::learning_bytes(int64_t windows, int64_t context) const {
  // A value, its quantized copy and its gradient; transformed weights, quantized weights and the
  // gradients of both, and the optimizer's copies of what groups learn; probabilities of student
  // and two teachers, two gradients and a work area.
  constexpr int64_t kPerValue = 3;
  constexpr int64_t kPerWeight = 5;
  constexpr int64_t kPerProbability = 6;
  int64_t floats = 0;
  for (const ir::Node& node : block_->nodes) {
    if (node.op == ir::Op::kWeight) continue;
    floats += kPerValue * windows * context * block_->type(node.result).shape.back();
    if (node.op == ir::Op::kAttention)
      floats += kPerProbability * windows * node.int_attribute("heads") * context * context;
  }
  for (const auto& [value, weight] : weights_) {
    // By type: who replaces a weight may have let go of it.
    const std::vector<int64_t>& shape = block_->type(value).shape;
    floats +=
        kPerWeight * std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  }
  return floats * static_cast<int64_t>(sizeof(float));
}

Status store_window(compute::TensorDevice& device, const Tensor& hidden, int64_t w,
                    std::vector<float>& window, Stream& output) {
  window.resize(static_cast<size_t>(hidden.size()));
  device.download(hidden, window);
  ABQ_RETURN_IF_ERROR(device.status());
  if (const auto bad = first_non_finite(window))
    return invalid_argument(
        "calibration window {}: token {} of the block's output has NaN or Inf; expected finite "
        "activations",
        w, *bad / static_cast<size_t>(hidden.cols()));
  return output.write(w, 1, window);
}

Status run_block_on_stream(const BlockEvaluator& evaluator, BlockRun run, const Stream& input,
                           Stream& output) {
  compute::TensorDevice& device = evaluator.device();
  run.context = input.context();
  std::vector<float> window(static_cast<size_t>(input.context() * input.hidden()));
  for (int64_t w = 0; w < input.windows(); ++w) {
    ABQ_RETURN_IF_ERROR(input.read(w, 1, window));
    Tape tape(device);
    const Var x = tape.constant(device.upload(window, input.context(), input.hidden()));
    ABQ_RETURN_IF_ERROR(
        store_window(device, evaluator.run(tape, x, run).hidden->value, w, window, output));
  }
  return {};
}

}  // namespace abq::passes::autodiff
