// How well each quantized linear follows its float original: both see the same input, that of the
// float block on the first kQualityWindows calibration windows.
//
// Fills LayerReport::output and outlier_ratio; changes nothing. Does nothing without calibration.
#include "passes/channel_statistics.h"
#include "passes/layers.h"
#include "passes/passes.h"
#include "quant/distortion.h"

namespace abq::passes {
namespace {

// A module whose one region is x -> [quantize_tokens ->] bit_linear, with the layer's tensors.
ir::Module single_layer(const ir::Module& module, const ir::Block& block, const ir::Node& layer) {
  ir::Module single;
  single.name = layer.name;
  single.regions.emplace_back();
  ir::Region& region = single.regions.back();
  region.name = layer.name;
  ir::Builder builder(single, region);

  const int producer = block.producer(layer.operands[0]);
  const ir::Node* tokens = nullptr;
  if (producer >= 0 && block.nodes[static_cast<size_t>(producer)].op == ir::Op::kQuantizeTokens)
    tokens = &block.nodes[static_cast<size_t>(producer)];
  const ir::ValueId x_of_block = tokens ? tokens->operands[0] : layer.operands[0];
  ir::ValueId x = builder.argument("x", block.type(x_of_block));
  if (tokens)
    x = builder.node(tokens->op, tokens->name, {x}, block.type(tokens->result), tokens->attributes);
  std::vector<ir::ValueId> operands = {x};
  for (size_t i = 1; i < layer.operands.size(); ++i)
    operands.push_back(builder.weight(module.weight_name(block, layer.operands[i]),
                                      module.weight_tensor(block, layer.operands[i])));
  builder.result(builder.node(layer.op, layer.name, std::move(operands), block.type(layer.result),
                              layer.attributes));
  return single;
}

// Evaluates a quantized layer wherever the float block evaluates the layer of the same name.
class OutputComparison {
 public:
  OutputComparison(const ir::Module& module, const ir::Block& block, const compute::Device& device)
      : interpreter_(device) {
    for (int index : bit_linear_nodes(block)) {
      const ir::Node& node = block.nodes[static_cast<size_t>(index)];
      layers_.emplace(node.name, Layer{single_layer(module, block, node), {}});
    }
  }

  void see_input(const ir::Node& node, const ir::Matrix& x) {
    if (layers_.contains(node.name)) input_ = x;
  }

  void see_output(const ir::Node& node, const ir::Matrix& y) {
    const auto layer = layers_.find(node.name);
    if (layer == layers_.end() || !status_.ok()) return;
    const ir::Module& single = layer->second.module;
    const Result<ir::Matrix> quantized = interpreter_.run(single, single.regions.front(), input_);
    if (!quantized.ok()) {
      status_ = quantized.status().with_context(node.name);
      return;
    }
    layer->second.distortion.add(y.data, quantized->data);
  }

  const Status& status() const { return status_; }

  void report(PassContext& context) const {
    for (const auto& [name, layer] : layers_)
      if (quant::LayerReport* row = context.find_layer_report(name))
        row->output = {layer.distortion.sqnr_db(), layer.distortion.cosine(),
                       layer.distortion.max_error()};
  }

 private:
  struct Layer {
    ir::Module module;
    quant::Distortion distortion;
  };
  ir::Interpreter interpreter_;
  std::map<std::string, Layer> layers_;
  ir::Matrix input_;
  Status status_;
};

struct MeasureOutputs : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    if (!context.calibrated()) return {};
    for (const auto& [name, statistics] : context.input_statistics)
      if (quant::LayerReport* row = context.find_layer_report(name))
        row->outlier_ratio = outlier_ratio(statistics);
    if (!context.float_block || bit_linear_nodes(block).empty()) return {};

    OutputComparison comparison(module, block, *context.device);
    ir::Interpreter interpreter(*context.device);
    interpreter.observe_inputs(
        [&](const ir::Node& node, const ir::Matrix& x) { comparison.see_input(node, x); });
    interpreter.observe_outputs(
        [&](const ir::Node& node, const ir::Matrix& y) { comparison.see_output(node, y); });
    for (const ir::Matrix& x : context.quality_inputs) {
      const Result<ir::Matrix> y =
          interpreter.run(*context.float_block, context.float_block->regions.front(), x);
      ABQ_RETURN_IF_ERROR(y.status());
      ABQ_RETURN_IF_ERROR(comparison.status());
    }
    comparison.report(context);
    context.float_block.reset();
    return {};
  }
};

}  // namespace

std::unique_ptr<Pass> create_measure_outputs() {
  return std::make_unique<MeasureOutputs>();
}

}  // namespace abq::passes
