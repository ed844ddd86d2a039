// Replaces every linear whose scheme asks for it, rounded to nearest or as a pass before chose.
//
//   y = linear(x, w)  ==>  t = quantize_tokens(x)                    {bits = a}     (a < 16)
//                          y = bit_linear(t, codes, scales, zeros)   {bits, balanced, ...}
//
// Linears that read the same x at the same width share t. Codes are u8 [N, K], one byte each
// (pack-weights packs them); scales f32 [N, G]; zeros u8 [N, G]. The float weight is dropped; one
// layer at a time is held as float32. Every block linear gets its row of the report here.
#include <algorithm>

#include "passes/layers.h"
#include "passes/passes.h"
#include "quant/affine.h"
#include "quant/distortion.h"
#include "support/parallel.h"

namespace abq::passes {
namespace {

quant::Quality weight_quality(std::span<const float> values,
                              const quant::QuantizedWeights& weights) {
  quant::Distortion distortion;
  const auto k = static_cast<size_t>(weights.k);
  const auto groups = static_cast<size_t>(weights.spec.groups(weights.k));
  const size_t group = k / groups;
  std::vector<float> row(k);
  for (size_t n = 0; n < static_cast<size_t>(weights.n); ++n) {
    for (size_t g = 0; g < groups; ++g)
      quant::dequantize_values(std::span(weights.codes).subspan(n * k + g * group, group),
                               weights.spec,
                               {weights.scales[n * groups + g], weights.zeros[n * groups + g]},
                               std::span(row).subspan(g * group, group));
    distortion.add(values.subspan(n * k, k), row);
  }
  return {distortion.sqnr_db(), distortion.cosine(), distortion.max_error()};
}

void report_clips(std::span<const quant::ClipRatio> clips, quant::LayerReport& row) {
  if (clips.empty()) return;
  double low = 0;
  double high = 0;
  for (const quant::ClipRatio& clip : clips) {
    low += static_cast<double>(clip.low);
    high += static_cast<double>(clip.high);
  }
  row.clip_low = low / static_cast<double>(clips.size());
  row.clip_high = high / static_cast<double>(clips.size());
}

// Builds the block's nodes anew, in order, with the replacements in their places.
class BlockQuantizer {
 public:
  BlockQuantizer(ir::Module& module, ir::Block& block, PassContext& context)
      : module_(module), block_(block), context_(context) {}

  Status run() {
    std::vector<ir::Node> nodes = std::move(block_.nodes);
    block_.nodes.clear();
    for (ir::Node& node : nodes) {
      if (node.op == ir::Op::kLinear) {
        ABQ_RETURN_IF_ERROR(rewrite_linear(std::move(node)));
      } else {
        if (node.op == ir::Op::kRmsNorm) ABQ_RETURN_IF_ERROR(store_norm(node));
        block_.nodes.push_back(std::move(node));
      }
    }
    ir::remove_unused_weights(module_, block_);
    return {};
  }

 private:
  // As it is, or as a pass learned it.
  Status store_norm(const ir::Node& node) {
    const ir::ValueId weight = node.operands[1];
    const auto learned = context_.learned_norms.extract(module_.weight_name(block_, weight));
    if (!learned) return load_finite_weight(module_, block_, weight).status();
    return change_weight(module_, block_, weight, [&](MatrixView<float> values) {
      std::copy(learned.mapped().begin(), learned.mapped().end(), values.data);
    });
  }

  Status rewrite_linear(ir::Node node) {
    const auto scheme = context_.layer_schemes.find(node.name);
    if (scheme == context_.layer_schemes.end())
      return invalid_argument("{}: has no scheme; run assign-schemes before quantize", node.name);
    const LinearShape shape = linear_shape(block_, node);
    quant::LayerReport row;
    row.name = node.name;
    row.scheme = quant::to_string(scheme->second);
    row.n = shape.n;
    row.k = shape.k;
    Result<std::vector<float>> values = load_finite_weight(module_, block_, node.operands[1]);
    if (!values.ok()) return values.status().with_context(node.name);

    if (scheme->second.weights.quantized()) {
      ABQ_RETURN_IF_ERROR(replace(std::move(node), scheme->second, *values, row));
    } else {
      const ir::Type& type = block_.type(node.operands[1]);
      row.encoding = ir::element_type_name(type.element);
      row.packed_bytes = ir::byte_size(type);
      row.weight = weight_quality_of_copy(*values);
      block_.nodes.push_back(std::move(node));
    }
    context_.report.layers.push_back(std::move(row));
    return {};
  }

  static quant::Quality weight_quality_of_copy(std::span<const float> values) {
    quant::Distortion distortion;
    distortion.add(values, values);
    return {distortion.sqnr_db(), distortion.cosine(), distortion.max_error()};
  }

  Status replace(ir::Node node, const quant::Scheme& scheme, const std::vector<float>& values,
                 quant::LayerReport& row) {
    const quant::WeightSpec& spec = scheme.weights;
    const MatrixView<const float> view(values.data(), row.n, row.k);
    std::vector<quant::ClipRatio> clips;
    Result<quant::QuantizedWeights> weights = round(node.name, view, spec, clips, row);
    if (!weights.ok()) return weights.status().with_context(node.name);
    row.weight = weight_quality(values, *weights);
    report_clips(clips, row);

    const std::string base = module_.weight_name(block_, node.operands[1]);
    if (module_.tensors.contains(base + ".codes"))
      return unsupported("{}: its weight {} has more than one reader", node.name, base);
    const int64_t groups = spec.groups(row.k);
    node.op = ir::Op::kBitLinear;
    node.attributes = ir::weight_spec_attributes(spec);
    node.operands = {
        tokens_of(node.operands[0], scheme.activation_bits),
        add_weight(base + ".codes", ir::ElementType::kU8, {row.n, row.k}, weights->codes),
        add_weight(base + ".scales", ir::ElementType::kF32, {row.n, groups}, weights->scales),
        add_weight(base + ".zeros", ir::ElementType::kU8, {row.n, groups}, weights->zeros)};
    block_.nodes.push_back(std::move(node));
    return {};
  }

  // Codes that a pass chose, else to nearest; `clips` become what the grids were made with.
  Result<quant::QuantizedWeights> round(const std::string& name, MatrixView<const float> view,
                                        const quant::WeightSpec& spec,
                                        std::vector<quant::ClipRatio>& clips,
                                        quant::LayerReport& row) {
    if (auto rounded = context_.rounded_layers.extract(name)) {
      RoundedLayer& layer = rounded.mapped();
      ABQ_CHECK(layer.weights.spec == spec && layer.weights.n == view.rows &&
                layer.weights.k == view.cols);
      clips = std::move(layer.clips);
      row.rounding = layer.report;
      return std::move(layer.weights);
    }
    if (const auto chosen = context_.layer_clips.find(name); chosen != context_.layer_clips.end()) {
      clips = chosen->second;
    } else if (context_.recipe.clip_search) {
      clips = quant::search_clips(view, spec);
    }
    return quant::quantize_weights(view, spec, clips);
  }

  // x itself at 16 bits, else the value of a quantize_tokens node, made at the first use.
  ir::ValueId tokens_of(ir::ValueId x, int bits) {
    if (bits >= 16) return x;
    const auto known = tokens_.find({x, bits});
    if (known != tokens_.end()) return known->second;
    const int producer = block_.producer(x);
    const std::string& source = producer < 0 ? block_.values[static_cast<size_t>(x)].name
                                             : block_.nodes[static_cast<size_t>(producer)].name;
    const ir::Type type{ir::ElementType::kTokens, bits, block_.type(x).shape};
    const ir::ValueId tokens =
        ir::Builder(module_, block_)
            .node(ir::Op::kQuantizeTokens, fmt::format("{}.a{}", source, bits), {x}, type,
                  {{"bits", int64_t{bits}}});
    tokens_[{x, bits}] = tokens;
    return tokens;
  }

  template <class T>
  ir::ValueId add_weight(const std::string& name, ir::ElementType element,
                         std::vector<int64_t> shape, const std::vector<T>& values) {
    ir::Tensor tensor;
    tensor.type = {element, 0, std::move(shape)};
    tensor.data = ir::TensorData::from_vector(values);
    return ir::Builder(module_, block_).weight(name, std::move(tensor));
  }

  ir::Module& module_;
  ir::Block& block_;
  PassContext& context_;
  std::map<std::pair<ir::ValueId, int>, ir::ValueId> tokens_;
};

struct Quantize : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    // Only a calibrated compilation measures outputs against it; others need not keep the weights.
    if (context.calibrated()) context.float_block = extract_region(module, block);
    return BlockQuantizer(module, block, context).run();
  }
};

}  // namespace

std::unique_ptr<Pass> create_quantize() {
  return std::make_unique<Quantize>();
}

}  // namespace abq::passes
