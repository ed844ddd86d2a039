#include "passes/allocation/head_run.h"

#include "passes/layers.h"

namespace abq::passes {
Result<std::unique_ptr<HeadRun>> HeadRun::create(compute::TensorDevice& device, ir::Module head) {
  std::unique_ptr<HeadRun> run(new HeadRun(device, std::move(head)));
  ABQ_ASSIGN_OR_RETURN(run->evaluator_, autodiff::BlockEvaluator::create(
                                            device, run->head_, run->head_.regions.front()));
  return run;
}

Status HeadRun::logits(std::span<const float> hidden, std::vector<float>& logits) const {
  const ir::Region& region = evaluator_->block();
  const int64_t width = region.type(region.arguments.at(0)).shape.back();
  const int64_t tokens = std::ssize(hidden) / width;
  autodiff::Tape tape(device_);
  autodiff::BlockRun run;
  run.context = tokens;
  const autodiff::Var x = tape.constant(device_.upload(hidden, tokens, width));
  const compute::Tensor y = evaluator_->run(tape, x, run).hidden->value;
  logits.resize(static_cast<size_t>(y.size()));
  device_.download(y, logits);
  ABQ_RETURN_IF_ERROR(device_.status());
  if (const auto bad = first_non_finite(logits))
    return invalid_argument("logits of token {} have NaN or Inf; expected finite activations",
                            static_cast<int64_t>(*bad) / y.cols());
  return {};
}

Result<quant::Divergence> HeadRun::compare(std::span<const float> reference,
                                           std::span<const float> other) const {
  std::vector<float> reference_logits;
  std::vector<float> other_logits;
  ABQ_RETURN_IF_ERROR(logits(reference, reference_logits));
  ABQ_RETURN_IF_ERROR(logits(other, other_logits));
  const int64_t vocabulary =
      evaluator_->block().type(evaluator_->block().results.at(0)).shape.back();
  const int64_t tokens = std::ssize(reference_logits) / vocabulary;
  return quant::compare_logits({reference_logits.data(), tokens, vocabulary},
                               {other_logits.data(), tokens, vocabulary});
}

}  // namespace abq::passes
