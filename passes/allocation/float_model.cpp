#include "passes/allocation/float_model.h"

#include "passes/embed_windows.h"
#include "passes/layers.h"

namespace abq::passes {

Result<FloatModel> FloatModel::run(const ir::Module& module, PassContext& context) {
  compute::TensorDevice& device = context.tensors();
  FloatModel model;
  ABQ_ASSIGN_OR_RETURN(model.hidden_, embed_windows(module, context.calibration_windows,
                                                    *context.device, context.stream_options));
  for (const ir::Region& block : module.regions) {
    if (block.kind != ir::RegionKind::kBlock) continue;
    ABQ_ASSIGN_OR_RETURN(const autodiff::BlockEvaluator evaluator,
                         autodiff::BlockEvaluator::create(device, module, block));
    ABQ_ASSIGN_OR_RETURN(Stream output,
                         Stream::create(model.hidden_.windows(), model.hidden_.context(),
                                        model.hidden_.hidden(), context.stream_options));
    const Status status = autodiff::run_block_on_stream(evaluator, {}, model.hidden_, output);
    if (!status.ok()) return status.with_context(block.name);
    model.hidden_ = std::move(output);
  }
  ABQ_ASSIGN_OR_RETURN(model.head_,
                       HeadRun::create(device, extract_region(module, module.regions.back())));
  model.window_.resize(static_cast<size_t>(model.hidden_.context() * model.hidden_.hidden()));
  return model;
}

Status FloatModel::logits(int64_t w, int64_t first, int64_t count, std::vector<float>& logits) {
  if (w != window_read_) {
    ABQ_RETURN_IF_ERROR(hidden_.read(w, 1, window_));
    window_read_ = w;
  }
  const auto width = static_cast<size_t>(hidden_.hidden());
  return head_->logits(std::span(window_).subspan(static_cast<size_t>(first) * width,
                                                  static_cast<size_t>(count) * width),
                       logits);
}

}  // namespace abq::passes
