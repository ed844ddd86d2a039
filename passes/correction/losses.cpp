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
  // Adds the terms whose weights are not 0, times them, as one part of the loss.
  const auto add_part = [&](Var& part, double float_weight, double quantized_weight,
                            const auto& loss_against_float, const auto& loss_against_quantized) {
    std::vector<Term> terms;
    if (float_weight > 0) terms.push_back(term(loss_against_float(), float_weight));
    if (quantized_weight > 0) terms.push_back(term(loss_against_quantized(), quantized_weight));
    if (terms.empty()) return;
    part = autodiff::weighted_sum(tape, terms);
    parts.push_back({part, 1.0f});
  };
  const auto dlc = [&](const Tensor& target) {
    return autodiff::negative_log_abs(tape, autodiff::mean_cosine(tape, output.hidden, target));
  };
  const auto mse = [&](const Tensor& target) {
    return autodiff::mean_squared_error(tape, output.hidden, target);
  };
  const auto akl = [&](const std::vector<Tensor>& target) {
    return mean_divergence(tape, output.probabilities, target);
  };
  add_part(
      losses.dlc, settings.dlc_float, settings.dlc_quantized,
      [&] { return dlc(targets.float_output); }, [&] { return dlc(targets.quantized_output); });
  if (!output.probabilities.empty())
    add_part(
        losses.akl, settings.akl_float, settings.akl_quantized,
        [&] { return akl(targets.float_probabilities); },
        [&] { return akl(targets.quantized_probabilities); });
  add_part(
      losses.mse, settings.mse_float, settings.mse_quantized,
      [&] { return mse(targets.float_output); }, [&] { return mse(targets.quantized_output); });
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
