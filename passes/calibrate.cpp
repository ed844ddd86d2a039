// Runs the float block on every calibration window: collects what each linear's input looks like
// and advances the float stream from the block's input to its output, in place.
//
// The first block's input is the embedding of the calibration windows, unless the stream is already
// there. Memory: one stream (windows * context * hidden floats) and one window's intermediates.
#include <algorithm>

#include "passes/channel_statistics.h"
#include "passes/layers.h"
#include "passes/passes.h"

namespace abq::passes {
namespace {

Status embed_windows(const ir::Module& module, PassContext& context) {
  const ir::Interpreter interpreter(*context.device);
  context.float_stream.reserve(context.calibration_windows.size());
  for (const std::vector<int32_t>& window : context.calibration_windows) {
    ABQ_ASSIGN_OR_RETURN(ir::Matrix embedded, interpreter.embed(module, window));
    context.float_stream.push_back(std::move(embedded));
  }
  context.report.calibration_tokens = 0;
  for (const ir::Matrix& window : context.float_stream)
    context.report.calibration_tokens += window.rows;
  return {};
}

// Watches the inputs of a block's linears, once per distinct input.
class LinearInputs {
 public:
  explicit LinearInputs(const ir::Block& block) {
    for (int index : linear_nodes(block)) {
      const ir::Node& node = block.nodes[static_cast<size_t>(index)];
      readers_[node.operands[0]].push_back(node.name);
    }
  }

  void observe(const ir::Node& node, const ir::Matrix& x) {
    if (node.op != ir::Op::kLinear || !status_.ok()) return;
    const ir::ValueId input = node.operands[0];
    if (readers_[input].front() != node.name) return;
    status_ = collectors_[input].add(x).with_context(node.name);
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
  std::map<ir::ValueId, std::vector<std::string>> readers_;
  std::map<ir::ValueId, ChannelCollector> collectors_;
  Status status_;
};

struct Calibrate : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    if (!context.calibrated())
      return invalid_argument("calibrate needs calibration text; give --calib FILE");
    if (context.float_stream.empty()) ABQ_RETURN_IF_ERROR(embed_windows(module, context));

    const size_t quality_windows =
        std::min(context.float_stream.size(), static_cast<size_t>(kQualityWindows));
    context.quality_inputs.assign(
        context.float_stream.begin(),
        context.float_stream.begin() + static_cast<std::ptrdiff_t>(quality_windows));
    LinearInputs inputs(block);
    ir::Interpreter interpreter(*context.device);
    interpreter.observe_inputs(
        [&](const ir::Node& node, const ir::Matrix& x) { inputs.observe(node, x); });
    for (size_t w = 0; w < context.float_stream.size(); ++w) {
      ir::Matrix& hidden = context.float_stream[w];
      Result<ir::Matrix> output = interpreter.run(module, block, hidden);
      const Status status = output.ok() ? inputs.status() : output.status();
      if (!status.ok()) return status.with_context(fmt::format("calibration window {}", w));
      if (const auto bad = first_non_finite(output->data))
        return invalid_argument(
            "calibration window {}: token {} of the block's output has NaN or "
            "Inf; expected finite activations",
            w, *bad / static_cast<size_t>(output->cols));
      // Copied, not moved: the stream keeps its buffers and the heap does not scatter.
      hidden.cols = output->cols;
      hidden.data.assign(output->data.begin(), output->data.end());
    }
    context.input_statistics.clear();
    std::move(inputs).finish(context.input_statistics);
    return {};
  }
};

}  // namespace

std::unique_ptr<Pass> create_calibrate() {
  return std::make_unique<Calibrate>();
}

}  // namespace abq::passes
