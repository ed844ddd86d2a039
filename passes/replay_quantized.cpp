// Runs the quantized block on the quantized stream: what the next block will see behind quantized
// blocks. Before the first block that stream is the float one.
//
// The last block has no next one, and nothing is run. After `quantize`, so that it runs what will
// be deployed: dequantized weights and quantized activations, as floats. Where a pass before has
// left these outputs already (gptq), they are taken as they are.
#include "passes/autodiff/block_evaluator.h"
#include "passes/layers.h"
#include "passes/passes.h"

namespace abq::passes {
namespace {

struct ReplayQuantized : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    if (!context.quantized_outputs.empty()) {
      context.quantized_stream = std::move(context.quantized_outputs);
      return {};
    }
    const Stream& input =
        context.quantized_stream.empty() ? context.float_stream : context.quantized_stream;
    if (input.empty())
      return invalid_argument("replay-quantized needs a stream; run calibrate before");
    if (!feeds_another(module, block)) return {};
    compute::TensorDevice& device = context.tensors();
    ABQ_ASSIGN_OR_RETURN(const autodiff::BlockEvaluator evaluator,
                         autodiff::BlockEvaluator::create(device, module, block));
    ABQ_ASSIGN_OR_RETURN(Stream output, Stream::create(input.windows(), input.context(),
                                                       input.hidden(), context.stream_options));
    autodiff::BlockRun run;
    run.quantize_attention = true;
    ABQ_RETURN_IF_ERROR(run_block_on_stream(evaluator, std::move(run), input, output));
    context.quantized_stream = std::move(output);
    return {};
  }
};

}  // namespace

std::unique_ptr<Pass> create_replay_quantized() {
  return std::make_unique<ReplayQuantized>();
}

}  // namespace abq::passes
