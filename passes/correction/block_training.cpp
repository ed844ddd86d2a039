#include "passes/correction/block_training.h"

#include <fmt/format.h>

#include <algorithm>

namespace abq::passes {
namespace {

// "epoch 3/20, loss 0.0123 (dlc 0.0100, akl 0.0023)"
std::string describe(const quant::LossParts& losses, int64_t epoch, int64_t epochs) {
  std::string parts;
  const auto add = [&](std::string_view name, double value) {
    if (value != 0) parts += fmt::format("{}{} {:.4g}", parts.empty() ? "" : ", ", name, value);
  };
  add("dlc", losses.dlc);
  add("akl", losses.akl);
  add("mse", losses.mse);
  return fmt::format("epoch {}/{}, loss {:.4g} ({})", epoch + 1, epochs, losses.total, parts);
}

// The float block on every window of a stream.
Result<Stream> float_outputs(const autodiff::BlockEvaluator& evaluator, const Stream& input,
                             const StreamOptions& options) {
  ABQ_ASSIGN_OR_RETURN(Stream output,
                       Stream::create(input.windows(), input.context(), input.hidden(), options));
  ABQ_RETURN_IF_ERROR(run_block_on_stream(evaluator, {}, input, output));
  return output;
}

}  // namespace

BlockPlace place_of(const ir::Module& module, const ir::Block& block) {
  BlockPlace place;
  for (const ir::Region& region : module.regions) {
    if (region.kind != ir::RegionKind::kBlock) continue;
    if (&region == &block) place.index = place.count;
    ++place.count;
  }
  return place;
}

BlockTraining::BlockTraining(const ir::Module& module, const autodiff::BlockEvaluator& evaluator,
                             PassContext& context, int64_t default_epochs)
    : block_(evaluator.block()),
      context_(context),
      settings_(context.recipe.correction),
      evaluator_(evaluator),
      place_(place_of(module, evaluator.block())) {
  report_.name = block_.name;
  if (settings_.epochs == 0) settings_.epochs = default_epochs;
}

Result<bool> BlockTraining::resume(BlockLearner& learner) {
  if (context_.learned_blocks == nullptr) return false;
  ABQ_ASSIGN_OR_RETURN(const std::optional<LearnedBlock> learned,
                       context_.learned_blocks->load(block_.name));
  if (!learned) return false;
  ABQ_RETURN_IF_ERROR(learner.set(learned->tensors).with_context(block_.name));
  report_ = learned->report;
  context_.micro_batch = report_.micro_batch;
  return true;
}

Status BlockTraining::keep(const BlockLearner& learner) {
  if (context_.learned_blocks == nullptr) return {};
  ABQ_ASSIGN_OR_RETURN(std::vector<LearnedTensor> tensors, learner.get());
  return context_.learned_blocks->save(block_.name, {std::move(tensors), report_});
}

Status BlockTraining::learn(const BlockLearner& start, BlockLearner& learner) {
  const Stream& input =
      context_.quantized_stream.empty() ? context_.float_stream : context_.quantized_stream;
  // The float block on the quantized stream, where a loss asks for it; before the first block both
  // streams are one.
  const bool wanted = settings_.dlc_quantized > 0 || settings_.mse_quantized > 0;
  Stream behind_quantized;
  if (wanted && !context_.quantized_stream.empty()) {
    ABQ_ASSIGN_OR_RETURN(behind_quantized,
                         float_outputs(evaluator_, input, context_.stream_options));
  }
  const BlockStreams streams = {
      &context_.float_stream, &input, &context_.float_outputs,
      behind_quantized.empty() ? &context_.float_outputs : &behind_quantized};
  ABQ_ASSIGN_OR_RETURN(const WindowBatches batches,
                       WindowBatches::create(evaluator_.device(), streams));
  choose_micro_batch(batches, learner);
  const uint64_t seed = context_.recipe.seed + static_cast<uint64_t>(place_.index);
  const Trainer trainer(evaluator_, batches, settings_, context_.micro_batch, seed);

  ABQ_ASSIGN_OR_RETURN(const BlockQuality before, trainer.evaluate(start));
  ABQ_ASSIGN_OR_RETURN(
      const BlockQuality learned,
      trainer.train(learner, report_, [&](int64_t epoch, const quant::LossParts& losses) {
        if (context_.detail_progress)
          context_.detail_progress(
              describe(losses, epoch, settings_.epochs),
              static_cast<double>(epoch + 1) / static_cast<double>(settings_.epochs));
      }));
  report_.rounding = before.losses;
  report_.learned = learned.losses;
  report_.attention_divergence_before = before.divergence;
  report_.attention_divergence_after = learned.divergence;
  return {};
}

void BlockTraining::choose_micro_batch(const WindowBatches& batches, const BlockLearner& learner) {
  const int64_t batch = std::min(settings_.batch, batches.windows());
  if (context_.micro_batch == 0) {
    const int64_t memory =
        context_.learning_memory > 0 ? context_.learning_memory : evaluator_.device().free_bytes();
    context_.micro_batch = settings_.micro_batch > 0
                               ? settings_.micro_batch
                               : fitting_micro_batch(evaluator_, batch, batches.context(),
                                                     memory - learner.optimizer_bytes());
  }
  report_.micro_batch = context_.micro_batch;
}

void BlockTraining::note_micro_batch() {
  const int64_t batch = std::min(settings_.batch, context_.float_stream.windows());
  if (settings_.micro_batch != 0 || report_.micro_batch >= batch) return;
  context_.report.notes.push_back(
      fmt::format("memory: {} of {} windows of a batch at a time, gradients added up",
                  report_.micro_batch, batch));
}

void BlockTraining::finish() {
  if (context_.report.blocks.empty()) note_micro_batch();
  context_.report.blocks.push_back(report_);
}

}  // namespace abq::passes
