// How well each quantized linear follows its float original: both see the same input, that of the
// float block on the first kQualityWindows calibration windows.
//
// Fills LayerReport::output and outlier_ratio; changes nothing. Does nothing without calibration.
// Memory: the weights of both blocks as float32 on the tensor device, and one window's
// intermediates.
#include "passes/autodiff/block_evaluator.h"
#include "passes/channel_statistics.h"
#include "passes/layers.h"
#include "passes/passes.h"
#include "quant/distortion.h"

namespace abq::passes {
namespace {

// Activation bits of a bit_linear: those of the quantize_tokens it reads, or 16.
int activation_bits(const ir::Block& block, const ir::Node& layer) {
  const int producer = block.producer(layer.operands[0]);
  if (producer < 0) return 16;
  const ir::Node& node = block.nodes[static_cast<size_t>(producer)];
  return node.op == ir::Op::kQuantizeTokens ? static_cast<int>(node.int_attribute("bits")) : 16;
}

// Evaluates a quantized layer wherever the float block evaluates the layer of the same name.
class OutputComparison {
 public:
  // `quantized` outlives the comparison.
  explicit OutputComparison(const autodiff::BlockEvaluator& quantized) : quantized_(quantized) {
    const ir::Block& block = quantized.block();
    for (int index : bit_linear_nodes(block)) {
      const ir::Node& node = block.nodes[static_cast<size_t>(index)];
      layers_[node.name] = {node.operands[1], activation_bits(block, node), {}};
    }
  }

  void observe(const ir::Node& node, const compute::Tensor& x, const compute::Tensor& y) {
    const auto found = layers_.find(node.name);
    if (found == layers_.end()) return;
    Layer& layer = found->second;
    compute::TensorDevice& device = quantized_.device();
    const compute::Tensor input =
        layer.bits < 16 ? device.fake_quantize_tokens(x, layer.bits, x.cols()) : x;
    const compute::Tensor approximation = device.linear(input, quantized_.weight(layer.weight));
    layer.distortion.add(downloaded(y, reference_values_),
                         downloaded(approximation, approximate_values_));
  }

  void report(PassContext& context) const {
    for (const auto& [name, layer] : layers_)
      if (quant::LayerReport* row = context.find_layer_report(name))
        row->output = {layer.distortion.sqnr_db(), layer.distortion.cosine(),
                       layer.distortion.max_error()};
  }

 private:
  struct Layer {
    ir::ValueId weight = 0;
    int bits = 16;
    quant::Distortion distortion;
  };

  std::span<const float> downloaded(const compute::Tensor& tensor, std::vector<float>& values) {
    values.resize(static_cast<size_t>(tensor.size()));
    quantized_.device().download(tensor, values);
    return values;
  }

  const autodiff::BlockEvaluator& quantized_;
  std::map<std::string, Layer> layers_;
  std::vector<float> reference_values_;
  std::vector<float> approximate_values_;
};

struct MeasureOutputs : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    if (!context.calibrated()) return {};
    for (const auto& [name, statistics] : context.input_statistics)
      if (quant::LayerReport* row = context.find_layer_report(name))
        row->outlier_ratio = outlier_ratio(statistics);
    if (!context.float_block || bit_linear_nodes(block).empty()) return {};

    compute::TensorDevice& device = context.tensors();
    ABQ_ASSIGN_OR_RETURN(const autodiff::BlockEvaluator quantized,
                         autodiff::BlockEvaluator::create(device, module, block));
    ABQ_ASSIGN_OR_RETURN(const autodiff::BlockEvaluator original,
                         autodiff::BlockEvaluator::create(device, *context.float_block,
                                                          context.float_block->regions.front()));
    OutputComparison comparison(quantized);
    autodiff::BlockRun run;
    run.observe_output = [&](const ir::Node& node, const compute::Tensor& x,
                             const compute::Tensor& y) { comparison.observe(node, x, y); };
    for (const ir::Matrix& window : context.quality_inputs) {
      autodiff::Tape tape(device);
      run.context = window.rows;
      original.run(tape, tape.constant(device.upload(window.data, window.rows, window.cols)), run);
      ABQ_RETURN_IF_ERROR(device.status());
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
