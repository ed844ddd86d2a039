// The optimization loop of one block: AdamW over epochs of window batches, best state kept,
// recovery from losses that are not finite.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "passes/correction/learner.h"
#include "passes/correction/losses.h"
#include "passes/correction/window_batches.h"

namespace abq::passes {

// Losses and attention divergence over all windows.
using BlockQuality = LossSums::Values;

// The most windows of a batch that learn within `memory` bytes, by halving; at least 1.
int64_t fitting_micro_batch(const autodiff::BlockEvaluator& evaluator, int64_t batch,
                            int64_t context, int64_t memory);

class Trainer {
 public:
  // How far training has come: after each epoch.
  using EpochDone = std::function<void(int64_t epoch, const quant::LossParts& losses)>;

  // `micro_batch` windows go through the block at a time; `seed` decides the order of windows. The
  // batches, the evaluator and the settings outlive the trainer.
  Trainer(const autodiff::BlockEvaluator& evaluator, const WindowBatches& batches,
          const quant::CorrectionSettings& settings, int64_t micro_batch, uint64_t seed);

  // Leaves the student in the best of three states by its loss over all windows: as it came, after
  // the last epoch, after the epoch with the lowest mean loss; returns that state's quality. The
  // curve and events go to the report. A loss that is not finite goes back to the last good state
  // with half the rates, at most kMaxRecoveries times; then the states so far stand.
  Result<BlockQuality> train(BlockLearner& student, quant::BlockReport& report,
                             const EpochDone& epoch_done) const;
  static constexpr int kMaxRecoveries = 3;

  // Forward only.
  Result<BlockQuality> evaluate(const BlockLearner& student) const;

 private:
  struct OptimizerState;

  // The float probabilities are needed for their loss, or (`measured`) to be reported.
  Status run_epochs(BlockLearner& student, OptimizerState& state,
                    std::vector<compute::Tensor>& lowest, quant::BlockReport& report,
                    const EpochDone& epoch_done) const;
  LossTargets targets(const WindowBatch& batch, bool measured) const;
  Result<quant::LossParts> epoch(BlockLearner& student, OptimizerState& state, int64_t index,
                                 double rate_factor) const;
  Status step(BlockLearner& student, OptimizerState& state, std::span<const int64_t> windows,
              double rate_factor, LossSums& sums) const;
  double rate(LearnedParameter::Kind kind) const;
  double schedule_factor(int64_t step) const;
  int64_t steps_per_epoch() const;

  const autodiff::BlockEvaluator& evaluator_;
  const WindowBatches& batches_;
  const quant::CorrectionSettings& settings_;
  uint64_t seed_;
  int64_t micro_batch_;
};

}  // namespace abq::passes
