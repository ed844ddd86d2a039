// What a student leaves behind: its learned state, and the block's weights once they are folded.
#include <algorithm>
#include <cmath>

#include "passes/correction/student.h"
#include "passes/layers.h"

namespace abq::passes {
namespace {

using compute::Tensor;

std::vector<float> download(compute::TensorDevice& device, const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.size()));
  device.download(x, values);
  return values;
}

}  // namespace

Result<std::vector<LearnedTensor>> Student::get() const {
  std::vector<LearnedTensor> tensors;
  for (const StudentParameter& parameter : parameters_)
    tensors.push_back({parameter.name, parameter.value.rows(), parameter.value.cols(),
                       download(evaluator_->device(), parameter.value)});
  ABQ_RETURN_IF_ERROR(evaluator_->device().status());
  return tensors;
}

Status Student::set(const std::vector<LearnedTensor>& tensors) {
  if (tensors.size() != parameters_.size())
    return invalid_argument("learned state: has {} tensors, expected {}", tensors.size(),
                            parameters_.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    StudentParameter& parameter = parameters_[i];
    const LearnedTensor& from = tensors[i];
    if (from.name != parameter.name || from.rows != parameter.value.rows() ||
        from.cols != parameter.value.cols())
      return invalid_argument("learned state: has {} [{}, {}], expected {} [{}, {}]", from.name,
                              from.rows, from.cols, parameter.name, parameter.value.rows(),
                              parameter.value.cols());
    parameter.value = evaluator_->device().upload(from.values, from.rows, from.cols);
  }
  return {};
}

Status Student::fold(ir::Module& module, ir::Block& block, PassContext& context) const {
  compute::TensorDevice& device = evaluator_->device();
  std::map<ir::ValueId, std::vector<float>> folded;
  for (const auto& [weight, value] : transformed_weights())
    folded[weight] = download(device, value);
  for (const auto& [weight, state] : linears_) {
    if (state.clip_low < 0) continue;
    const auto factors = [&](int index) {
      return download(device, device.sigmoid(parameters_[static_cast<size_t>(index)].value));
    };
    const std::vector<float> low = factors(state.clip_low);
    const std::vector<float> high = factors(state.clip_high);
    std::vector<quant::ClipRatio>& clips = context.layer_clips[state.name];
    for (size_t i = 0; i < low.size(); ++i)
      clips.push_back({low[i], high[i]});
  }
  for (size_t i = 0; i < sites_.size(); ++i) {
    std::vector<float> scales = site_scales(i);
    // Statistics are of magnitudes and ranges; a negative scale turns the range around.
    for (float& value : scales)
      value = std::fabs(value);
    divide_statistics(block, sites_[i], scales, context.input_statistics);
  }
  ABQ_RETURN_IF_ERROR(device.status());
  for (const auto& [weight, values] : folded) {
    if (const auto bad = first_non_finite(values))
      return internal_error("{}: element {} is {} after folding", module.weight_name(block, weight),
                            *bad, values[*bad]);
    module.replace_weight(block, weight, ir::make_f32_tensor(block.type(weight).shape, values));
  }
  return {};
}

std::vector<float> Student::site_scales(size_t site) const {
  compute::TensorDevice& device = evaluator_->device();
  autodiff::Tape tape(device);
  const Tensor& learned = parameters_[static_cast<size_t>(site_parameters_[site])].value;
  return download(device, site_scales(tape, site, tape.constant(learned))->value);
}

Result<std::vector<quant::ScaleReport>> Student::scale_report() const {
  std::vector<quant::ScaleReport> report;
  for (size_t i = 0; i < sites_.size(); ++i) {
    std::vector<float> values = site_scales(i);
    ABQ_RETURN_IF_ERROR(evaluator_->device().status());
    std::sort(values.begin(), values.end());
    report.push_back({sites_[i].name, values.front(), values[values.size() / 2], values.back()});
  }
  return report;
}

Result<double> Student::compensation_norm() const {
  const auto norm = [&](const Tensor& x) {
    double sum = 0;
    for (const float v : download(evaluator_->device(), x))
      sum += static_cast<double>(v) * static_cast<double>(v);
    return std::sqrt(sum);
  };
  double product = 0;
  double weights = 0;
  for (const auto& [weight, state] : linears_) {
    if (state.left < 0) continue;
    product += norm(parameters_[static_cast<size_t>(state.left)].value) *
               norm(parameters_[static_cast<size_t>(state.right)].value);
    weights += norm(evaluator_->weight(weight));
  }
  ABQ_RETURN_IF_ERROR(evaluator_->device().status());
  return weights > 0 ? product / weights : 0.0;
}

}  // namespace abq::passes
