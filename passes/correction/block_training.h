// What learned block passes have in common: the four streams of a block, the size of a batch, the
// work folder, the report.
#pragma once

#include "passes/correction/learner.h"
#include "passes/correction/trainer.h"
#include "passes/pass.h"

namespace abq::passes {

// Place of the block among the module's blocks, and how many there are.
struct BlockPlace {
  int64_t index = 0;
  int64_t count = 0;
};
BlockPlace place_of(const ir::Module& module, const ir::Block& block);

class BlockTraining {
 public:
  // All arguments outlive it. The context needs the streams that `calibrate` leaves, of all
  // windows. `default_epochs` where the recipe does not say.
  BlockTraining(const ir::Module& module, const autodiff::BlockEvaluator& evaluator,
                PassContext& context, int64_t default_epochs);

  // True when the work folder knows the block: learner and report() have it then.
  Result<bool> resume(BlockLearner& learner);
  Status keep(const BlockLearner& learner);

  // Trains and writes to report(): the quality of `start`, which may be the learner before it
  // learns, as `rounding`, the learner's best state as `learned`.
  Status learn(const BlockLearner& start, BlockLearner& learner);

  quant::BlockReport& report() { return report_; }
  // Adds report() to the context's.
  void finish();

 private:
  void choose_micro_batch(const WindowBatches& batches, const BlockLearner& learner);
  void note_micro_batch();

  const ir::Block& block_;
  PassContext& context_;
  quant::CorrectionSettings settings_;
  const autodiff::BlockEvaluator& evaluator_;
  BlockPlace place_;
  quant::BlockReport report_;
};

}  // namespace abq::passes
