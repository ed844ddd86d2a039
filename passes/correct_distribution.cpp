// Distribution correction (ABQ-LLM, arXiv 2408.08554): learns channel scales, clip factors and
// compensation vectors of one block by gradient, so that the quantized block behind quantized
// blocks does what the float block does in the float model. Everything learned folds into weights
// and clip factors; the runtime pays nothing.
//
//   w  ==>  w * scales (+ a b^T on down projections), f32;  clip factors for `quantize`
//
// docs/distribution_correction.md has the losses, the sites and the choices. A block whose learned
// state is not better than plain rounding with clip search is rounded plainly, and the report says
// so.
#include <algorithm>
#include <cmath>

#include "passes/correction/block_training.h"
#include "passes/correction/student.h"
#include "passes/layers.h"
#include "passes/passes.h"

namespace abq::passes {
namespace {

bool compensates(quant::CompensationBlocks which, const BlockPlace& place) {
  switch (which) {
    case quant::CompensationBlocks::kNone:
      return false;
    case quant::CompensationBlocks::kAll:
      return true;
    case quant::CompensationBlocks::kEnds:
      break;
  }
  return place.index < quant::kCompensatedFirstBlocks ||
         place.index >= place.count - quant::kCompensatedLastBlocks;
}

class BlockCorrection {
 public:
  BlockCorrection(ir::Module& module, ir::Block& block, PassContext& context)
      : module_(module),
        block_(block),
        context_(context),
        settings_(context.recipe.correction),
        device_(context.tensors()) {}

  Status run() {
    ABQ_ASSIGN_OR_RETURN(const autodiff::BlockEvaluator evaluator,
                         autodiff::BlockEvaluator::create(device_, module_, block_));
    ABQ_ASSIGN_OR_RETURN(
        std::vector<ScaleSite> sites,
        find_scale_sites(module_, block_, context_.input_statistics, context_.recipe.smooth_alpha));
    for (ScaleSite& site : sites)
      for (float& scale : site.start)
        scale = std::pow(scale, static_cast<float>(settings_.scale_start));
    ABQ_ASSIGN_OR_RETURN(
        Student student,
        Student::create(
            evaluator, module_, context_.layer_schemes, std::move(sites),
            {.scales = settings_.scales,
             .relative_scales = settings_.relative_scales,
             .clips = settings_.clips,
             .compensation = compensates(settings_.compensation, place_of(module_, block_)),
             .clip_start = settings_.clip_start}));
    BlockTraining training(module_, evaluator, context_, quant::kCorrectionEpochs);
    quant::BlockReport& report = training.report();
    ABQ_ASSIGN_OR_RETURN(const bool known, training.resume(student));
    if (!known) {
      ABQ_ASSIGN_OR_RETURN(const Student plain, rounded_plainly(evaluator));
      ABQ_RETURN_IF_ERROR(training.learn(plain, student));
      ABQ_RETURN_IF_ERROR(judge(student, report));
      ABQ_RETURN_IF_ERROR(training.keep(student));
    }
    training.finish();
    if (report.learned_kept) return student.fold(module_, block_, context_);
    ABQ_ASSIGN_OR_RETURN(const Student plain, rounded_plainly(evaluator));
    return plain.fold(module_, block_, context_);
  }

 private:
  // Nothing learned; clip factors exactly as search finds them.
  Result<Student> rounded_plainly(const autodiff::BlockEvaluator& evaluator) const {
    return Student::create(evaluator, module_, context_.layer_schemes, {},
                           {.scales = false,
                            .clips = false,
                            .compensation = false,
                            .clip_start = quant::ClipStart::kSearch});
  }

  static Status judge(const Student& student, quant::BlockReport& report) {
    const double learned = report.learned.total;
    report.learned_kept = std::isfinite(learned) && !(learned >= report.rounding.total);
    if (!report.learned_kept) {
      report.attention_divergence_after = report.attention_divergence_before;
      report.events.push_back(fmt::format(
          "learned loss {:.4g} is not below that of plain rounding with clip search, {:.4g}; "
          "rounded plainly",
          learned, report.rounding.total));
      return {};
    }
    ABQ_ASSIGN_OR_RETURN(report.scales, student.scale_report());
    ABQ_ASSIGN_OR_RETURN(report.compensation_norm, student.compensation_norm());
    return {};
  }

  ir::Module& module_;
  ir::Block& block_;
  PassContext& context_;
  const quant::CorrectionSettings& settings_;
  compute::TensorDevice& device_;
};

struct CorrectDistribution : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    if (context.float_outputs.empty())
      return invalid_argument(
          "correct-distribution needs the float block's outputs; run calibrate before");
    return BlockCorrection(module, block, context).run();
  }
};

}  // namespace

std::unique_ptr<Pass> create_correct_distribution() {
  return std::make_unique<CorrectDistribution>();
}

}  // namespace abq::passes
