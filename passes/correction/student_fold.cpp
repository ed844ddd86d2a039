// What a student leaves behind: its learned state, and the block's weights once they are folded.
#include <algorithm>
#include <cmath>
#include <set>

#include "passes/correction/student.h"
#include "passes/layers.h"

namespace abq::passes {

using compute::Tensor;

Status Student::fold(ir::Module& module, ir::Block& block, PassContext& context) const {
  compute::TensorDevice& device = BlockLearner::device();
  std::set<ir::ValueId> changed;
  for (const auto& [weight, uses] : uses_)
    changed.insert(weight);
  for (const auto& [weight, state] : linears_) {
    if (state.left >= 0) changed.insert(weight);
    const quant::WeightSpec& spec = state.scheme.weights;
    if (spec.quantized() && !spec.binary())
      context.layer_clips[state.name] = clip_factors(state, weight);
  }
  for (size_t i = 0; i < sites_.size(); ++i)
    divide_statistics(block, sites_[i], site_scales(i), context.input_statistics);
  // One weight at a time: at 7B each of them is 180 MB in floats.
  for (const ir::ValueId weight : changed) {
    const std::vector<float> values = downloaded(transformed_weight(weight));
    ABQ_RETURN_IF_ERROR(device.status());
    if (const auto bad = first_non_finite(values))
      return internal_error("{}: element {} is {} after folding", module.weight_name(block, weight),
                            *bad, values[*bad]);
    module.replace_weight(block, weight, ir::make_f32_tensor(block.type(weight).shape, values));
  }
  return device.status();
}

std::vector<quant::ClipRatio> Student::clip_factors(const LinearState& state,
                                                    ir::ValueId weight) const {
  if (!state.fixed_clips.empty()) return state.fixed_clips;
  compute::TensorDevice& device = BlockLearner::device();
  const Tensor& w = evaluator().weight(weight);
  std::vector<quant::ClipRatio> clips(
      static_cast<size_t>(w.rows() * state.scheme.weights.groups(w.cols())));
  if (state.clip_low < 0) return clips;  // unclipped
  const auto factors = [&](int index) {
    return downloaded(device.sigmoid(parameters()[static_cast<size_t>(index)].value));
  };
  const std::vector<float> low = factors(state.clip_low);
  const std::vector<float> high = factors(state.clip_high);
  for (size_t i = 0; i < clips.size(); ++i)
    clips[i] = {low[i], high[i]};
  return clips;
}

std::vector<float> Student::site_scales(size_t site) const {
  compute::TensorDevice& device = BlockLearner::device();
  autodiff::Tape tape(device);
  const Tensor& learned = parameters()[static_cast<size_t>(site_parameters_[site])].value;
  return downloaded(site_scales(tape, site, tape.constant(learned))->value);
}

Result<std::vector<quant::ScaleReport>> Student::scale_report() const {
  std::vector<quant::ScaleReport> report;
  for (size_t i = 0; i < sites_.size(); ++i) {
    std::vector<float> values = site_scales(i);
    ABQ_RETURN_IF_ERROR(BlockLearner::device().status());
    std::sort(values.begin(), values.end());
    report.push_back({sites_[i].name, values.front(), values[values.size() / 2], values.back()});
  }
  return report;
}

Result<double> Student::compensation_norm() const {
  compute::TensorDevice& device = BlockLearner::device();
  const auto norm = [&](const Tensor& x) {
    double sum = 0;
    for (const float v : downloaded(x))
      sum += static_cast<double>(v) * static_cast<double>(v);
    return std::sqrt(sum);
  };
  double product = 0;
  double weights = 0;
  for (const auto& [weight, state] : linears_) {
    if (state.left < 0) continue;
    const Tensor& a = parameters()[static_cast<size_t>(state.left)].value;
    const Tensor& b = parameters()[static_cast<size_t>(state.right)].value;
    product += norm(a) * norm(b);
    // What the vectors are added to: the weight with its scales.
    const Tensor minus_a = device.filled(a.rows(), a.cols(), 0.0f);
    device.accumulate(minus_a, a, -1.0f);
    weights += norm(device.affine_weight(transformed_weight(weight), {}, {}, minus_a, b));
  }
  ABQ_RETURN_IF_ERROR(device.status());
  return weights > 0 ? product / weights : 0.0;
}

}  // namespace abq::passes
