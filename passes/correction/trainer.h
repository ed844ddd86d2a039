// The optimization loop of one block: AdamW over epochs of window batches, best state kept,
// recovery from losses that are not finite.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "passes/correction/losses.h"
#include "passes/correction/student.h"
#include "passes/correction/window_batches.h"

namespace abq::passes {

// Losses and attention divergence over all windows.
using BlockQuality = LossSums::Values;

class Trainer {
 public:
  // How far training has come: after each epoch.
  using EpochDone = std::function<void(int64_t epoch, const quant::LossParts& losses)>;

  // `seed` decides the order of windows. The batches, the evaluator and the settings outlive the
  // trainer.
  Trainer(const autodiff::BlockEvaluator& evaluator, const WindowBatches& batches,
          const quant::CorrectionSettings& settings, uint64_t seed);

  // Windows that go through the block at a time: the recipe's, or the whole batch, halved until it
  // fits the device's free memory.
  int64_t micro_batch() const { return micro_batch_; }

  // Leaves the student in the state with the lowest mean loss over an epoch; the curve and events
  // go to the report. A loss that is not finite goes back to the last good epoch with half the
  // rates, at most kMaxRecoveries times; then the best state so far stands.
  Status train(Student& student, quant::BlockReport& report, const EpochDone& epoch_done) const;
  static constexpr int kMaxRecoveries = 3;

  // Forward only.
  Result<BlockQuality> evaluate(const Student& student) const;

 private:
  struct OptimizerState;

  // The float probabilities are needed for their loss, or (`measured`) to be reported.
  LossTargets targets(const WindowBatch& batch, bool measured) const;
  Result<quant::LossParts> epoch(Student& student, OptimizerState& state, int64_t index,
                                 double rate_factor) const;
  Status step(Student& student, OptimizerState& state, std::span<const int64_t> windows,
              double rate_factor, LossSums& sums) const;
  double rate(StudentParameter::Kind kind) const;
  double schedule_factor(int64_t step) const;
  int64_t steps_per_epoch() const;

  const autodiff::BlockEvaluator& evaluator_;
  const WindowBatches& batches_;
  const quant::CorrectionSettings& settings_;
  uint64_t seed_;
  int64_t micro_batch_;
};

}  // namespace abq::passes
