// Learned rounding: moves the codes of one block, its step sizes and its norm weights by gradient,
// so that the quantized block behind quantized blocks does what the float block does in the float
// model. Starts at the codes that `gptq` chose; the losses are those of distribution correction
// (ABQ-LLM, arXiv 2408.08554).
//
// Nothing in the graph changes: PassContext::rounded_layers and learned_norms get what was learned,
// and `quantize` stores it. A block whose loss does not fall keeps GPTQ's codes.
// docs/learned_rounding.md.
#include "passes/correction/block_training.h"
#include "passes/correction/rounding_student.h"
#include "passes/layers.h"
#include "passes/passes.h"

namespace abq::passes {
namespace {

// What the block makes of the quantized stream by now, in place of what `gptq` left.
Status replay(const RoundingStudent& student, const autodiff::BlockEvaluator& evaluator,
              PassContext& context) {
  const Stream& input =
      context.quantized_stream.empty() ? context.float_stream : context.quantized_stream;
  compute::TensorDevice& device = evaluator.device();
  ABQ_ASSIGN_OR_RETURN(Stream output, Stream::create(input.windows(), input.context(),
                                                     input.hidden(), context.stream_options));
  std::vector<float> window(static_cast<size_t>(input.context() * input.hidden()));
  for (int64_t w = 0; w < input.windows(); ++w) {
    ABQ_RETURN_IF_ERROR(input.read(w, 1, window));
    autodiff::Tape tape(device);
    const compute::Tensor x = device.upload(window, input.context(), input.hidden());
    const BlockLearner::Pass pass = student.run(tape, x, input.context(), false);
    ABQ_RETURN_IF_ERROR(
        autodiff::store_window(device, pass.output.hidden->value, w, window, output));
  }
  context.quantized_outputs = std::move(output);
  return {};
}

bool quantizes_any(const ir::Block& block, const PassContext& context) {
  for (const int index : linear_nodes(block))
    if (context.rounded_layers.contains(block.nodes[static_cast<size_t>(index)].name)) return true;
  return false;
}

struct LearnRounding : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    if (context.float_outputs.empty())
      return invalid_argument(
          "learn-rounding needs the float block's outputs; run calibrate before");
    if (!quantizes_any(block, context)) return {};
    ABQ_ASSIGN_OR_RETURN(const autodiff::BlockEvaluator evaluator,
                         autodiff::BlockEvaluator::create(context.tensors(), module, block));
    ABQ_ASSIGN_OR_RETURN(RoundingStudent student,
                         RoundingStudent::create(evaluator, module, context, {}));
    BlockTraining training(module, evaluator, context, quant::kRoundingEpochs);
    quant::BlockReport& report = training.report();
    ABQ_ASSIGN_OR_RETURN(const bool known, training.resume(student));
    if (!known) {
      ABQ_RETURN_IF_ERROR(training.learn(student, student));
      report.learned_kept = report.learned.total < report.rounding.total;
      ABQ_ASSIGN_OR_RETURN(const bool storable, student.storable());
      if (!storable) {
        ABQ_ASSIGN_OR_RETURN(student, RoundingStudent::create(evaluator, module, context, {}));
        report.learned = report.rounding;
        report.attention_divergence_after = report.attention_divergence_before;
        report.learned_kept = false;
        report.events.push_back(
            "a learned step size is not positive: GPTQ's codes stand; a lower step_rate or fewer "
            "epochs may help");
      }
      ABQ_ASSIGN_OR_RETURN(report.changed_codes, student.changed_codes(context));
      ABQ_RETURN_IF_ERROR(training.keep(student));
    }
    training.finish();
    ABQ_RETURN_IF_ERROR(student.store(context));
    context.quantized_outputs = {};
    if (!feeds_another(module, block)) return {};
    return replay(student, evaluator, context);
  }
};

}  // namespace

std::unique_ptr<Pass> create_learn_rounding() {
  return std::make_unique<LearnRounding>();
}

}  // namespace abq::passes
