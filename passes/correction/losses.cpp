#include "passes/correction/losses.h"

#include <array>

#include "passes/autodiff/ops.h"

namespace abq::passes {

using autodiff::Term;
using autodiff::Var;
using compute::Tensor;

namespace {

Term term(Var loss, double weight) {
  return {std::move(loss), static_cast<float>(weight)};
}

}  // namespace

Var mean_divergence(autodiff::Tape& tape, const std::vector<Var>& probabilities,
                    const std::vector<Tensor>& targets) {
  ABQ_CHECK(probabilities.size() == targets.size());
  std::vector<Term> terms;
  for (size_t i = 0; i < targets.size(); ++i)
    terms.push_back(term(autodiff::symmetric_divergence(tape, probabilities[i], targets[i]),
                         1.0 / static_cast<double>(targets.size())));
  return autodiff::weighted_sum(tape, terms);
}

Losses correction_losses(autodiff::Tape& tape, const quant::CorrectionSettings& settings,
                         const autodiff::BlockOutput& output, const LossTargets& targets) {
  Losses losses;
  std::vector<Term> parts;
  const auto add_part = [&](Var& part, const std::vector<Term>& terms) {
    part = autodiff::weighted_sum(tape, terms);
    parts.push_back({part, 1.0f});
  };
  if (settings.dlc > 0) {
    std::vector<Term> terms;
    for (const Tensor& target : {targets.float_output, targets.quantized_output})
      terms.push_back(
          term(autodiff::negative_log_abs(tape, autodiff::mean_cosine(tape, output.hidden, target)),
               settings.dlc));
    add_part(losses.dlc, terms);
  }
  if (settings.akl > 0 && !output.probabilities.empty())
    add_part(losses.akl, {term(mean_divergence(tape, output.probabilities, targets.probabilities),
                               settings.akl)});
  if (settings.mse_float > 0 || settings.mse_quantized > 0) {
    std::vector<Term> terms;
    if (settings.mse_float > 0)
      terms.push_back(term(autodiff::mean_squared_error(tape, output.hidden, targets.float_output),
                           settings.mse_float));
    if (settings.mse_quantized > 0)
      terms.push_back(
          term(autodiff::mean_squared_error(tape, output.hidden, targets.quantized_output),
               settings.mse_quantized));
    add_part(losses.mse, terms);
  }
  losses.total = autodiff::weighted_sum(tape, parts);
  return losses;
}

LossSums::LossSums(compute::TensorDevice& device)
    : device_(device), sums_(device.filled(5, 1, 0.0f)) {}

void LossSums::add(const Losses& losses, float weight) {
  const std::array<const Var*, 4> parts = {&losses.total, &losses.dlc, &losses.akl, &losses.mse};
  for (size_t i = 0; i < parts.size(); ++i)
    if (*parts[i])
      device_.accumulate(sums_.row_range(static_cast<int64_t>(i), 1), (*parts[i])->value, weight);
}

void LossSums::add_divergence(const Var& divergence, float weight) {
  device_.accumulate(sums_.row_range(4, 1), divergence->value, weight);
}

LossSums::Values LossSums::read() {
  std::array<float, 5> sums{};
  device_.download(sums_, sums);
  Values values;
  values.losses = {sums[0], sums[1], sums[2], sums[3]};
  values.divergence = sums[4];
  return values;
}

}  // namespace abq::passes
