#include "passes/correction/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "passes/correction/schedule.h"

namespace abq::passes {
namespace {

using compute::Tensor;

// Copies of tensors that training changes in place.
std::vector<Tensor> copies(compute::TensorDevice& device, const std::vector<Tensor>& tensors) {
  std::vector<Tensor> result;
  for (const Tensor& tensor : tensors)
    result.push_back(device.copy(tensor));
  return result;
}

void restore(compute::TensorDevice& device, const std::vector<Tensor>& to,
             const std::vector<Tensor>& from) {
  for (size_t i = 0; i < to.size(); ++i)
    device.assign(to[i], from[i]);
}

}  // namespace

Trainer::Trainer(const autodiff::BlockEvaluator& evaluator, const WindowBatches& batches,
                 const quant::CorrectionSettings& settings, int64_t micro_batch, uint64_t seed)
    : evaluator_(evaluator),
      batches_(batches),
      settings_(settings),
      seed_(seed),
      micro_batch_(micro_batch) {}

int64_t fitting_micro_batch(const autodiff::BlockEvaluator& evaluator, int64_t batch,
                            int64_t context, int64_t memory) {
  while (batch > 1 && evaluator.learning_bytes(batch, context) > memory)
    batch = (batch + 1) / 2;
  return batch;
}

// Everything a step changes.
struct Trainer::OptimizerState {
  std::vector<Tensor> tensors;  // parameters, means, variances
  size_t parameters = 0;
  int64_t steps = 0;

  OptimizerState(compute::TensorDevice& device, const BlockLearner& student)
      : parameters(student.parameters().size()) {
    for (const LearnedParameter& parameter : student.parameters())
      tensors.push_back(parameter.value);
    for (int moment = 0; moment < 2; ++moment)
      for (const LearnedParameter& parameter : student.parameters())
        tensors.push_back(device.filled(parameter.value.rows(), parameter.value.cols(), 0.0f));
  }
  std::vector<Tensor> values() const {
    return {tensors.begin(), tensors.begin() + static_cast<std::ptrdiff_t>(parameters)};
  }
  const Tensor& mean(size_t i) const { return tensors[parameters + i]; }
  const Tensor& variance(size_t i) const { return tensors[2 * parameters + i]; }
};

Result<BlockQuality> Trainer::train(BlockLearner& student, quant::BlockReport& report,
                                    const EpochDone& epoch_done) const {
  ABQ_ASSIGN_OR_RETURN(const BlockQuality start, evaluate(student));
  if (student.parameters().empty()) return start;
  if (!std::isfinite(start.losses.total)) {
    report.events.push_back("the loss is not finite where learning starts; nothing learned");
    return start;
  }
  compute::TensorDevice& device = evaluator_.device();
  OptimizerState state(device, student);
  const std::vector<Tensor> first = copies(device, state.values());
  std::vector<Tensor> lowest = copies(device, state.values());
  ABQ_RETURN_IF_ERROR(run_epochs(student, state, lowest, report, epoch_done));

  // The mean over an epoch is of moving parameters: what counts is a loss over all windows.
  BlockQuality best = start;
  std::vector<Tensor> best_values = first;
  for (const std::vector<Tensor>& candidate : {copies(device, state.values()), lowest}) {
    restore(device, state.values(), candidate);
    ABQ_ASSIGN_OR_RETURN(const BlockQuality quality, evaluate(student));
    if (!(quality.losses.total < best.losses.total)) continue;
    best = quality;
    best_values = candidate;
  }
  restore(device, state.values(), best_values);
  ABQ_RETURN_IF_ERROR(device.status());
  return best;
}

// A state is known to be good once an epoch that began with it had finite losses: the last step of
// an epoch is not in that epoch's losses.
Status Trainer::run_epochs(BlockLearner& student, OptimizerState& state,
                           std::vector<Tensor>& lowest, quant::BlockReport& report,
                           const EpochDone& epoch_done) const {
  compute::TensorDevice& device = evaluator_.device();
  struct Checkpoint {
    std::vector<Tensor> tensors;
    int64_t steps = 0;
    int64_t epoch = 0;
  };
  Checkpoint good = {copies(device, state.tensors), 0, 0};
  Checkpoint before = {copies(device, state.tensors), 0, 0};
  double lowest_loss = std::numeric_limits<double>::infinity();
  double rate_factor = 1;
  int recoveries = 0;
  for (int64_t index = 0; index < settings_.epochs;) {
    restore(device, before.tensors, state.tensors);
    before.steps = state.steps;
    before.epoch = index;
    ABQ_ASSIGN_OR_RETURN(const quant::LossParts losses, epoch(student, state, index, rate_factor));
    if (std::isfinite(losses.total)) {
      restore(device, good.tensors, before.tensors);
      good.steps = before.steps;
      good.epoch = before.epoch;
      if (losses.total < lowest_loss) {
        lowest_loss = losses.total;
        restore(device, lowest, state.values());
      }
      report.epochs.push_back(losses);
      if (epoch_done) epoch_done(index, losses);
      ++index;
      continue;
    }
    restore(device, state.tensors, good.tensors);
    state.steps = good.steps;
    if (recoveries == kMaxRecoveries) {
      report.events.push_back(fmt::format(
          "epoch {}: the loss is not finite after {} recoveries; stopped", index, recoveries));
      return {};
    }
    ++recoveries;
    rate_factor /= 2;
    report.events.push_back(
        fmt::format("epoch {}: the loss is not finite; went back to the start of epoch {} with {} "
                    "of the rates",
                    index, good.epoch, rate_factor));
    index = good.epoch;
    report.epochs.resize(static_cast<size_t>(index));
  }
  return {};
}

Result<quant::LossParts> Trainer::epoch(BlockLearner& student, OptimizerState& state, int64_t index,
                                        double rate_factor) const {
  compute::TensorDevice& device = evaluator_.device();
  const std::vector<int64_t> order = shuffled_windows(batches_.windows(), seed_, index);
  LossSums sums(device);
  const std::span<const int64_t> windows(order);
  const auto batch = static_cast<size_t>(settings_.batch);
  for (size_t first = 0; first < windows.size(); first += batch)
    ABQ_RETURN_IF_ERROR(step(student, state,
                             windows.subspan(first, std::min(batch, windows.size() - first)),
                             rate_factor, sums));
  // A quantizer turns NaN into a code: what has become of the parameters shows in themselves alone.
  const Tensor squares = device.filled(1, 1, 0.0f);
  for (const Tensor& value : state.values()) {
    const Tensor row = value.reshaped(1, value.size());
    device.accumulate(squares, device.linear(row, row), 1.0f);
  }
  float finite = 0;
  device.download(squares, std::span(&finite, 1));
  quant::LossParts losses = sums.read().losses;
  ABQ_RETURN_IF_ERROR(device.status());
  if (!std::isfinite(finite)) losses.total = std::numeric_limits<double>::quiet_NaN();
  return losses;
}

Status Trainer::step(BlockLearner& student, OptimizerState& state, std::span<const int64_t> windows,
                     double rate_factor, LossSums& sums) const {
  compute::TensorDevice& device = evaluator_.device();
  const auto micro = static_cast<size_t>(micro_batch_);
  std::vector<Tensor> gradients(student.parameters().size());
  for (size_t first = 0; first < windows.size(); first += micro) {
    const auto part = windows.subspan(first, std::min(micro, windows.size() - first));
    const float share = static_cast<float>(part.size()) / static_cast<float>(windows.size());
    ABQ_ASSIGN_OR_RETURN(const WindowBatch batch, batches_.load(part));
    const LossTargets target = targets(batch, false);
    autodiff::Tape tape(device);
    BlockLearner::Pass pass = student.run(tape, batch.quantized_input, batches_.context(), true);
    const Losses losses = correction_losses(tape, settings_, pass.output, target);
    pass.output = {};
    tape.backward(losses.total, share);
    sums.add(losses, static_cast<float>(part.size()) / static_cast<float>(batches_.windows()));
    for (size_t i = 0; i < gradients.size(); ++i)
      autodiff::add_gradient(device, pass.bound[i], gradients[i]);
  }
  const double factor = rate_factor * schedule_factor(state.steps);
  ++state.steps;
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].empty()) continue;  // a scale that nothing quantized depends on
    compute::AdamW adamw;
    adamw.rate = factor * rate(student.parameters()[i].kind);
    adamw.step = state.steps;
    device.adamw(state.tensors[i], gradients[i], state.mean(i), state.variance(i), adamw);
  }
  return {};
}

LossTargets Trainer::targets(const WindowBatch& batch, bool measured) const {
  LossTargets target;
  target.float_output = batch.float_output;
  target.quantized_output = batch.quantized_output;
  autodiff::BlockRun run;
  run.context = batches_.context();
  if (measured || settings_.akl_float > 0)
    target.float_probabilities = evaluator_.probabilities(batch.float_input, run);
  if (settings_.akl_quantized > 0)
    target.quantized_probabilities = evaluator_.probabilities(batch.quantized_input, run);
  return target;
}

Result<BlockQuality> Trainer::evaluate(const BlockLearner& student) const {
  compute::TensorDevice& device = evaluator_.device();
  LossSums sums(device);
  std::vector<int64_t> order(static_cast<size_t>(batches_.windows()));
  std::iota(order.begin(), order.end(), 0);
  const std::span<const int64_t> windows(order);
  const auto micro = static_cast<size_t>(micro_batch_);
  for (size_t first = 0; first < windows.size(); first += micro) {
    const auto part = windows.subspan(first, std::min(micro, windows.size() - first));
    const float share = static_cast<float>(part.size()) / static_cast<float>(windows.size());
    ABQ_ASSIGN_OR_RETURN(const WindowBatch batch, batches_.load(part));
    const LossTargets target = targets(batch, true);
    autodiff::Tape tape(device);
    const BlockLearner::Pass pass =
        student.run(tape, batch.quantized_input, batches_.context(), false);
    sums.add(correction_losses(tape, settings_, pass.output, target), share);
    sums.add_divergence(
        mean_divergence(tape, pass.output.probabilities, target.float_probabilities), share);
  }
  const BlockQuality quality = sums.read();
  ABQ_RETURN_IF_ERROR(device.status());
  return quality;
}

double Trainer::rate(LearnedParameter::Kind kind) const {
  switch (kind) {
    case LearnedParameter::Kind::kScale:
      return settings_.scale_rate;
    case LearnedParameter::Kind::kClip:
      return settings_.clip_rate;
    case LearnedParameter::Kind::kCompensation:
      return settings_.compensation_rate;
    case LearnedParameter::Kind::kCode:
      return settings_.code_rate;
    case LearnedParameter::Kind::kStep:
      return settings_.step_rate;
    case LearnedParameter::Kind::kNorm:
      return settings_.norm_rate;
  }
  return 0;
}

int64_t Trainer::steps_per_epoch() const {
  return (batches_.windows() + settings_.batch - 1) / settings_.batch;
}

double Trainer::schedule_factor(int64_t step) const {
  if (settings_.schedule == quant::RateSchedule::kConstant) return 1;
  const double done =
      static_cast<double>(step) / static_cast<double>(settings_.epochs * steps_per_epoch());
  return cosine_decay(done);
}

}  // namespace abq::passes
