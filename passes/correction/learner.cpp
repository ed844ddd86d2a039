#include "passes/correction/learner.h"

namespace abq::passes {

Result<std::vector<LearnedTensor>> BlockLearner::get() const {
  std::vector<LearnedTensor> tensors;
  for (const LearnedParameter& parameter : parameters_)
    tensors.push_back({parameter.name, parameter.value.rows(), parameter.value.cols(),
                       downloaded(parameter.value)});
  ABQ_RETURN_IF_ERROR(device().status());
  return tensors;
}

Status BlockLearner::set(const std::vector<LearnedTensor>& tensors) {
  if (tensors.size() != parameters_.size())
    return invalid_argument("learned state: has {} tensors, expected {}", tensors.size(),
                            parameters_.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    LearnedParameter& parameter = parameters_[i];
    const LearnedTensor& from = tensors[i];
    if (from.name != parameter.name || from.rows != parameter.value.rows() ||
        from.cols != parameter.value.cols())
      return invalid_argument("learned state: has {} [{}, {}], expected {} [{}, {}]", from.name,
                              from.rows, from.cols, parameter.name, parameter.value.rows(),
                              parameter.value.cols());
    parameter.value = device().upload(from.values, from.rows, from.cols);
  }
  return {};
}

int64_t BlockLearner::optimizer_bytes() const {
  constexpr int64_t kCopies = 12;
  int64_t bytes = 0;
  for (const LearnedParameter& parameter : parameters_)
    bytes += kCopies * parameter.value.bytes();
  return bytes;
}

int BlockLearner::add_parameter(std::string name, LearnedParameter::Kind kind,
                                std::span<const float> values, int64_t rows, int64_t cols) {
  parameters_.push_back({std::move(name), kind, device().upload(values, rows, cols)});
  return static_cast<int>(parameters_.size()) - 1;
}

std::vector<autodiff::Var> BlockLearner::bind(autodiff::Tape& tape, bool learning) const {
  std::vector<autodiff::Var> bound;
  for (const LearnedParameter& parameter : parameters_)
    bound.push_back(learning ? tape.parameter(parameter.value) : tape.constant(parameter.value));
  return bound;
}

std::vector<float> BlockLearner::downloaded(const compute::Tensor& x) const {
  std::vector<float> values(static_cast<size_t>(x.size()));
  device().download(x, values);
  return values;
}

}  // namespace abq::passes
