// Runs the float block on every calibration window: collects what each linear's input looks like
// and writes the block's outputs, the next block's float stream.
//
// The first block's input is the embedding of the calibration windows, unless the stream is already
// there. PassContext::float_windows limits how many windows it runs. Memory: two streams (windows *
// context * hidden floats each) and one window's intermediates.
#include <algorithm>

#include "passes/autodiff/block_evaluator.h"
#include "passes/channel_statistics.h"
#include "passes/embed_windows.h"
#include "passes/layers.h"
#include "passes/passes.h"

namespace abq::passes {
namespace {

// The embeddings of all windows become the quantized stream, the first ones of it the float stream.
Status keep_float_windows(PassContext& context) {
  context.quantized_stream = std::move(context.float_stream);
  const Stream& all = context.quantized_stream;
  ABQ_ASSIGN_OR_RETURN(context.float_stream, Stream::create(context.float_windows, all.context(),
                                                            all.hidden(), context.stream_options));
  std::vector<float> values(static_cast<size_t>(all.context() * all.hidden()));
  for (int64_t w = 0; w < context.float_windows; ++w) {
    ABQ_RETURN_IF_ERROR(all.read(w, 1, values));
    ABQ_RETURN_IF_ERROR(context.float_stream.write(w, 1, values));
  }
  return {};
}

Status start_streams(const ir::Module& module, PassContext& context) {
  ABQ_ASSIGN_OR_RETURN(
      context.float_stream,
      embed_windows(module, context.calibration_windows, *context.device, context.stream_options));
  const int64_t windows = context.float_stream.windows();
  if (context.float_windows > 0 && context.float_windows < windows)
    return keep_float_windows(context);
  return {};
}

// Watches the inputs of a block's linears, once per distinct input.
class LinearInputs {
 public:
  LinearInputs(const ir::Block& block, compute::TensorDevice& device) : device_(device) {
    for (int index : linear_nodes(block)) {
      const ir::Node& node = block.nodes[static_cast<size_t>(index)];
      readers_[node.operands[0]].push_back(node.name);
    }
  }

  void observe(const ir::Node& node, const compute::Tensor& x) {
    const ir::ValueId input = node.operands[0];
    if (!status_.ok() || readers_[input].front() != node.name) return;
    std::vector<float> columns(static_cast<size_t>(3 * x.cols()));
    device_.download(device_.column_statistics(x), columns);
    status_ = device_.status();
    if (status_.ok()) status_ = collectors_[input].add(columns, x.rows()).with_context(node.name);
  }
  const Status& status() const { return status_; }

  void finish(std::map<std::string, ChannelStatistics>& by_name) && {
    for (auto& [input, collector] : collectors_) {
      const ChannelStatistics statistics = std::move(collector).finish();
      for (const std::string& name : readers_[input])
        by_name[name] = statistics;
    }
  }

 private:
  compute::TensorDevice& device_;
  std::map<ir::ValueId, std::vector<std::string>> readers_;
  std::map<ir::ValueId, ChannelCollector> collectors_;
  Status status_;
};

struct Calibrate : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    if (!context.calibrated())
      return invalid_argument("calibrate needs calibration text; give --calib FILE");
    if (context.float_stream.empty()) ABQ_RETURN_IF_ERROR(start_streams(module, context));
    const Stream& input = context.float_stream;
    context.report.calibration_tokens =
        std::max(input.windows(), std::ssize(context.calibration_windows)) * input.context();
    ABQ_RETURN_IF_ERROR(keep_quality_inputs(context));
    ABQ_ASSIGN_OR_RETURN(
        context.float_outputs,
        Stream::create(input.windows(), input.context(), input.hidden(), context.stream_options));

    compute::TensorDevice& device = context.tensors();
    ABQ_ASSIGN_OR_RETURN(const autodiff::BlockEvaluator evaluator,
                         autodiff::BlockEvaluator::create(device, module, block));
    LinearInputs inputs(block, device);
    autodiff::BlockRun run;
    run.observe_input = [&](const ir::Node& node, const compute::Tensor& x) {
      inputs.observe(node, x);
    };
    const Status status =
        run_block_on_stream(evaluator, std::move(run), input, context.float_outputs);
    // What is wrong with an input says more than what came of it.
    ABQ_RETURN_IF_ERROR(inputs.status());
    ABQ_RETURN_IF_ERROR(status);
    context.input_statistics.clear();
    std::move(inputs).finish(context.input_statistics);
    return {};
  }

 private:
  static Status keep_quality_inputs(PassContext& context) {
    const Stream& stream = context.float_stream;
    const int64_t windows = std::min(stream.windows(), kQualityWindows);
    context.quality_inputs.assign(static_cast<size_t>(windows),
                                  ir::make_matrix(stream.context(), stream.hidden()));
    for (int64_t w = 0; w < windows; ++w)
      ABQ_RETURN_IF_ERROR(stream.read(w, 1, context.quality_inputs[static_cast<size_t>(w)].data));
    return {};
  }
};

}  // namespace

std::unique_ptr<Pass> create_calibrate() {
  return std::make_unique<Calibrate>();
}

}  // namespace abq::passes
