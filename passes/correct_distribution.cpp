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

#include "passes/correction/student.h"
#include "passes/correction/trainer.h"
#include "passes/layers.h"
#include "passes/passes.h"

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

// Place of the block among the module's blocks, and how many there are.
struct BlockPlace {
  int64_t index = 0;
  int64_t count = 0;
};
BlockPlace place_of(const ir::Module& module, const ir::Block& block) {
  BlockPlace place;
  for (const ir::Region& region : module.regions) {
    if (region.kind != ir::RegionKind::kBlock) continue;
    if (&region == &block) place.index = place.count;
    ++place.count;
  }
  return place;
}

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
        place_(place_of(module, block)),
        device_(context.tensors()) {
    report_.name = block.name;
  }

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
        Student::create(evaluator, module_, context_.layer_schemes, std::move(sites),
                        {.scales = settings_.scales,
                         .relative_scales = settings_.relative_scales,
                         .clips = settings_.clips,
                         .compensation = compensates(settings_.compensation, place_),
                         .clip_start = settings_.clip_start}));
    ABQ_ASSIGN_OR_RETURN(const bool known, resume(student));
    if (!known) {
      ABQ_RETURN_IF_ERROR(learn(evaluator, student));
      ABQ_RETURN_IF_ERROR(keep(student));
    }
    if (context_.report.blocks.empty()) note_micro_batch();
    context_.report.blocks.push_back(report_);
    if (report_.learned_kept) return student.fold(module_, block_, context_);
    ABQ_ASSIGN_OR_RETURN(const Student plain, rounded_plainly(evaluator));
    return plain.fold(module_, block_, context_);
  }

 private:
  // True when the work folder knows the block.
  Result<bool> resume(Student& student) {
    if (context_.learned_blocks == nullptr) return false;
    ABQ_ASSIGN_OR_RETURN(const std::optional<LearnedBlock> learned,
                         context_.learned_blocks->load(block_.name));
    if (!learned) return false;
    ABQ_RETURN_IF_ERROR(student.set(learned->tensors).with_context(block_.name));
    report_ = learned->report;
    context_.micro_batch = report_.micro_batch;
    return true;
  }

  Status keep(const Student& student) {
    if (context_.learned_blocks == nullptr) return {};
    ABQ_ASSIGN_OR_RETURN(std::vector<LearnedTensor> tensors, student.get());
    return context_.learned_blocks->save(block_.name, {std::move(tensors), report_});
  }

  // Nothing learned; clip factors exactly as search finds them.
  Result<Student> rounded_plainly(const autodiff::BlockEvaluator& evaluator) const {
    return Student::create(evaluator, module_, context_.layer_schemes, {},
                           {.scales = false,
                            .clips = false,
                            .compensation = false,
                            .clip_start = quant::ClipStart::kSearch});
  }

  Status learn(const autodiff::BlockEvaluator& evaluator, Student& student) {
    const Stream& input =
        context_.quantized_stream.empty() ? context_.float_stream : context_.quantized_stream;
    // The float block on the quantized stream, where a loss asks for it; before the first block
    // both streams are one.
    const bool wanted = settings_.dlc_quantized > 0 || settings_.mse_quantized > 0;
    Stream behind_quantized;
    if (wanted && !context_.quantized_stream.empty()) {
      ABQ_ASSIGN_OR_RETURN(behind_quantized, float_outputs(evaluator, input));
    }
    const BlockStreams streams = {
        &context_.float_stream, &input, &context_.float_outputs,
        behind_quantized.empty() ? &context_.float_outputs : &behind_quantized};
    ABQ_ASSIGN_OR_RETURN(const WindowBatches batches, WindowBatches::create(device_, streams));
    choose_micro_batch(evaluator, batches);
    const uint64_t seed = context_.recipe.seed + static_cast<uint64_t>(place_.index);
    const Trainer trainer(evaluator, batches, settings_, context_.micro_batch, seed);

    ABQ_ASSIGN_OR_RETURN(const Student plain, rounded_plainly(evaluator));
    ABQ_ASSIGN_OR_RETURN(const BlockQuality rounded, trainer.evaluate(plain));
    ABQ_ASSIGN_OR_RETURN(
        const BlockQuality learned,
        trainer.train(student, report_, [&](int64_t epoch, const quant::LossParts& losses) {
          if (context_.detail_progress)
            context_.detail_progress(
                describe(losses, epoch, settings_.epochs),
                static_cast<double>(epoch + 1) / static_cast<double>(settings_.epochs));
        }));
    return judge(rounded, learned, student);
  }

  void choose_micro_batch(const autodiff::BlockEvaluator& evaluator, const WindowBatches& batches) {
    const int64_t batch = std::min(settings_.batch, batches.windows());
    if (context_.micro_batch == 0) {
      const int64_t memory =
          context_.learning_memory > 0 ? context_.learning_memory : device_.free_bytes();
      context_.micro_batch = settings_.micro_batch > 0
                                 ? settings_.micro_batch
                                 : fitting_micro_batch(evaluator, batch, batches.context(), memory);
    }
    report_.micro_batch = context_.micro_batch;
  }

  void note_micro_batch() {
    const int64_t batch = std::min(settings_.batch, context_.float_stream.windows());
    if (settings_.micro_batch != 0 || report_.micro_batch >= batch) return;
    context_.report.notes.push_back(
        fmt::format("memory: {} of {} windows of a batch at a time, gradients added up",
                    report_.micro_batch, batch));
  }

  Status judge(const BlockQuality& rounded, const BlockQuality& learned, const Student& student) {
    report_.rounding = rounded.losses;
    report_.learned = learned.losses;
    report_.attention_divergence_before = rounded.divergence;
    report_.attention_divergence_after = learned.divergence;
    report_.learned_kept =
        std::isfinite(learned.losses.total) && !(learned.losses.total >= rounded.losses.total);
    if (!report_.learned_kept) {
      report_.attention_divergence_after = rounded.divergence;
      report_.events.push_back(fmt::format(
          "learned loss {:.4g} is not below that of plain rounding with clip search, {:.4g}; "
          "rounded plainly",
          learned.losses.total, rounded.losses.total));
      return {};
    }
    ABQ_ASSIGN_OR_RETURN(report_.scales, student.scale_report());
    ABQ_ASSIGN_OR_RETURN(report_.compensation_norm, student.compensation_norm());
    return {};
  }

  Result<Stream> float_outputs(const autodiff::BlockEvaluator& evaluator, const Stream& input) {
    ABQ_ASSIGN_OR_RETURN(Stream output, Stream::create(input.windows(), input.context(),
                                                       input.hidden(), context_.stream_options));
    ABQ_RETURN_IF_ERROR(run_block_on_stream(evaluator, {}, input, output));
    return output;
  }

  ir::Module& module_;
  ir::Block& block_;
  PassContext& context_;
  const quant::CorrectionSettings& settings_;
  BlockPlace place_;
  compute::TensorDevice& device_;
  quant::BlockReport report_;
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
