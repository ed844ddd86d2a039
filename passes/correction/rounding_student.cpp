#include "passes/correction/rounding_student.h"

#include <algorithm>
#include <cmath>

#include "passes/autodiff/ops.h"
#include "passes/layers.h"

namespace abq::passes {
namespace {

using autodiff::Var;
using compute::Tensor;
using Kind = LearnedParameter::Kind;

// An offset of a binary code: within the reach of straight-through gradients, away from the edge.
constexpr float kBinaryOffset = 0.5f;

bool binary(const compute::WeightQuantizer& quantizer) {
  return quantizer.kind == compute::WeightQuantizer::Kind::kBinary;
}

std::vector<float> offsets_of(const RoundedLayer& layer) {
  const quant::QuantizedWeights& weights = layer.weights;
  std::vector<float> offsets(weights.codes.size());
  const auto k = static_cast<size_t>(weights.k);
  const auto groups = static_cast<size_t>(weights.spec.groups(weights.k));
  const size_t group = k / groups;
  for (size_t i = 0; i < offsets.size(); ++i) {
    const uint8_t zero = weights.zeros[i / k * groups + i % k / group];
    offsets[i] = weights.spec.binary() ? (weights.codes[i] != 0 ? kBinaryOffset : -kBinaryOffset)
                                       : static_cast<float>(weights.codes[i] - zero);
  }
  return offsets;
}

// quant::QuantizedWeights keeps the distance of two binary codes: twice the magnitude.
float step_of(const quant::WeightSpec& spec, float scale) {
  return spec.binary() ? 0.5f * scale : scale;
}

float scale_of(const quant::WeightSpec& spec, float step) {
  return spec.binary() ? 2.0f * step : step;
}

}  // namespace

Result<RoundingStudent> RoundingStudent::create(const autodiff::BlockEvaluator& evaluator,
                                                const ir::Module& module,
                                                const PassContext& context,
                                                const Options& options) {
  RoundingStudent student(evaluator);
  for (const ir::Node& node : evaluator.block().nodes) {
    if (node.op == ir::Op::kLinear) {
      ABQ_RETURN_IF_ERROR(student.add_linear(node, context, options));
    } else if (node.op == ir::Op::kRmsNorm) {
      ABQ_RETURN_IF_ERROR(student.add_norm(module, node, context, options));
    }
  }
  return student;
}

Status RoundingStudent::add_linear(const ir::Node& node, const PassContext& context,
                                   const Options& options) {
  const auto scheme = context.layer_schemes.find(node.name);
  if (scheme == context.layer_schemes.end())
    return invalid_argument("{} has no scheme; run assign-schemes first", node.name);
  activation_bits_[node.name] = scheme->second.activation_bits;
  if (!scheme->second.weights.quantized()) return {};
  const auto found = context.rounded_layers.find(node.name);
  if (found == context.rounded_layers.end())
    return invalid_argument("{} has no codes; run gptq first", node.name);
  const quant::QuantizedWeights& weights = found->second.weights;
  const int64_t groups = weights.spec.groups(weights.k);

  LinearState state;
  state.name = node.name;
  state.quantizer = weight_quantizer(weights.spec);
  const std::vector<float> offsets = offsets_of(found->second);
  if (options.codes) {
    state.offsets =
        add_parameter("offsets " + node.name, Kind::kCode, offsets, weights.n, weights.k);
  } else {
    state.fixed_offsets = device().upload(offsets, weights.n, weights.k);
  }
  std::vector<float> steps;
  for (const float scale : weights.scales)
    steps.push_back(step_of(weights.spec, scale));
  state.steps = device().upload(steps, weights.n, groups);
  if (options.steps) {
    const std::vector<float> ones(steps.size(), 1.0f);
    state.ratios = add_parameter("steps " + node.name, Kind::kStep, ones, weights.n, groups);
  }
  const std::vector<float> zeros(weights.zeros.begin(), weights.zeros.end());
  state.zeros = device().upload(zeros, weights.n, groups);
  linears_[node.operands[1]] = std::move(state);
  return {};
}

Status RoundingStudent::add_norm(const ir::Module& module, const ir::Node& node,
                                 const PassContext& context, const Options& options) {
  const ir::ValueId weight = node.operands[1];
  if (norms_.contains(weight)) return {};
  NormState state;
  state.weight = module.weight_name(evaluator().block(), weight);
  if (used_elsewhere(module, evaluator().block(), state.weight))
    return unsupported("{}: its weight {} has readers in other blocks", node.name, state.weight);
  const auto learned = context.learned_norms.find(state.weight);
  const std::vector<float> values = learned != context.learned_norms.end()
                                        ? learned->second
                                        : downloaded(evaluator().weight(weight));
  const auto count = static_cast<int64_t>(values.size());
  if (options.norms) {
    state.parameter = add_parameter("norm " + state.weight, Kind::kNorm, values, 1, count);
  } else {
    state.fixed = device().upload(values, 1, count);
  }
  norms_[weight] = std::move(state);
  return {};
}

Var RoundingStudent::steps_of(autodiff::Tape& tape, const LinearState& linear,
                              const std::vector<Var>& bound) const {
  const Var start = tape.constant(linear.steps);
  if (linear.ratios < 0) return start;
  return autodiff::multiply(tape, start, bound[static_cast<size_t>(linear.ratios)]);
}

BlockLearner::Pass RoundingStudent::run(autodiff::Tape& tape, const Var& x, int64_t context,
                                        bool learning) const {
  Pass pass;
  pass.bound = bind(tape, learning);
  autodiff::BlockRun run;
  run.context = context;
  run.quantize_attention = true;
  run.weight = [&](ir::ValueId weight) -> Var {
    if (const auto norm = norms_.find(weight); norm != norms_.end())
      return norm->second.parameter >= 0 ? pass.bound[static_cast<size_t>(norm->second.parameter)]
                                         : tape.constant(norm->second.fixed);
    const auto found = linears_.find(weight);
    if (found == linears_.end()) return nullptr;
    const LinearState& linear = found->second;
    const Var offsets = linear.offsets >= 0 ? pass.bound[static_cast<size_t>(linear.offsets)]
                                            : tape.constant(linear.fixed_offsets);
    return autodiff::rounded_weight(tape, offsets, steps_of(tape, linear, pass.bound), linear.zeros,
                                    linear.quantizer);
  };
  run.input_bits = [this](const ir::Node& linear) { return activation_bits_.at(linear.name); };
  pass.output = evaluator().run(tape, x, run);
  return pass;
}

void RoundingStudent::release_float_weights(autodiff::BlockEvaluator& own_evaluator) const {
  ABQ_CHECK(&own_evaluator == &evaluator());
  for (const auto& [weight, linear] : linears_)
    own_evaluator.replace_weight(weight, {});
}

std::vector<uint8_t> RoundingStudent::codes_of(const LinearState& linear,
                                               const RoundedLayer& layer) const {
  if (linear.offsets < 0) return layer.weights.codes;
  const quant::QuantizedWeights& weights = layer.weights;
  const std::vector<float> offsets =
      downloaded(parameters()[static_cast<size_t>(linear.offsets)].value);
  const auto k = static_cast<size_t>(weights.k);
  const auto groups = static_cast<size_t>(weights.spec.groups(weights.k));
  const size_t group = k / groups;
  const auto top = static_cast<float>(linear.quantizer.levels - 1);
  std::vector<uint8_t> codes(offsets.size());
  for (size_t i = 0; i < codes.size(); ++i) {
    if (binary(linear.quantizer)) {
      codes[i] = offsets[i] >= 0.0f ? 1 : 0;
      continue;
    }
    const auto zero = static_cast<float>(weights.zeros[i / k * groups + i % k / group]);
    codes[i] = static_cast<uint8_t>(std::clamp(std::nearbyint(offsets[i]) + zero, 0.0f, top));
  }
  return codes;
}

Result<double> RoundingStudent::changed_codes(const PassContext& context) const {
  int64_t changed = 0;
  int64_t all = 0;
  for (const auto& [weight, linear] : linears_) {
    const RoundedLayer& layer = context.rounded_layers.at(linear.name);
    const std::vector<uint8_t> codes = codes_of(linear, layer);
    for (size_t i = 0; i < codes.size(); ++i)
      changed += codes[i] != layer.weights.codes[i] ? 1 : 0;
    all += std::ssize(codes);
  }
  ABQ_RETURN_IF_ERROR(device().status());
  return all == 0 ? 0.0 : static_cast<double>(changed) / static_cast<double>(all);
}

Result<bool> RoundingStudent::storable() const {
  bool positive = true;
  for (const auto& [weight, linear] : linears_) {
    if (linear.ratios < 0) continue;
    for (const float ratio : downloaded(parameters()[static_cast<size_t>(linear.ratios)].value))
      positive = positive && std::isfinite(ratio) && ratio > 0.0f;
  }
  ABQ_RETURN_IF_ERROR(device().status());
  return positive;
}

Status RoundingStudent::store(PassContext& context) const {
  for (const auto& [weight, linear] : linears_) {
    RoundedLayer& layer = context.rounded_layers.at(linear.name);
    layer.weights.codes = codes_of(linear, layer);
    if (linear.ratios < 0) continue;
    const Tensor& ratios = parameters()[static_cast<size_t>(linear.ratios)].value;
    const std::vector<float> steps = downloaded(device().multiply(linear.steps, ratios));
    ABQ_RETURN_IF_ERROR(device().status());
    for (size_t i = 0; i < steps.size(); ++i) {
      const float scale = scale_of(layer.weights.spec, steps[i]);
      if (!std::isfinite(scale) || scale <= 0.0f)
        return internal_error("{}: learned scale {} of row or group {}", linear.name, scale, i);
      layer.weights.scales[i] = std::max(scale, quant::kMinScale);
    }
  }
  for (const auto& [weight, norm] : norms_) {
    if (norm.parameter < 0) continue;
    std::vector<float> values = downloaded(parameters()[static_cast<size_t>(norm.parameter)].value);
    if (const auto bad = first_non_finite(values))
      return internal_error("{}: element {} is {} after learning", norm.weight, *bad, values[*bad]);
    context.learned_norms[norm.weight] = std::move(values);
  }
  return device().status();
}

}  // namespace abq::passes
