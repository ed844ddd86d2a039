// Packs weight codes into the canonical dense layout (quant/packed_layout.h).
//
//   bit_linear(x, codes: u8[N, K], ...)  ==>  bit_linear(x, codes: planes<b>[N, K], ...)
//
// base5 and base3 for balanced 2- and 1-bit weights. Fills the layer's encoding and bytes.
#include "passes/layers.h"
#include "passes/passes.h"
#include "quant/packed_layout.h"
#include "support/parallel.h"

namespace abq::passes {
namespace {

ir::ElementType element_type(quant::Encoding encoding) {
  switch (encoding) {
    case quant::Encoding::kPlanes:
      return ir::ElementType::kPlanes;
    case quant::Encoding::kBase5:
      return ir::ElementType::kBase5;
    case quant::Encoding::kBase3:
      return ir::ElementType::kBase3;
  }
  ABQ_CHECK(false && "unknown encoding");
}

Result<ir::Tensor> pack(const ir::Tensor& codes, const quant::PackedLayout& layout) {
  if (!codes.data.present()) return invalid_argument("has no data to pack");
  const auto bytes = codes.data.bytes();
  const std::span<const uint8_t> values(reinterpret_cast<const uint8_t*>(bytes.data()),
                                        bytes.size());
  const auto k = static_cast<size_t>(layout.k);
  const auto row_bytes = static_cast<size_t>(layout.row_bytes());
  std::vector<std::byte> packed(static_cast<size_t>(layout.total_bytes()));
  parallel_for(layout.n, [&](int64_t n) {
    const auto row = static_cast<size_t>(n);
    quant::pack_row(layout, values.subspan(row * k, k),
                    std::span(packed).subspan(row * row_bytes, row_bytes));
  });
  ir::Tensor tensor;
  tensor.type = {element_type(layout.encoding), layout.code_bits, {layout.n, layout.k}};
  tensor.data = ir::TensorData::owned(std::move(packed));
  return tensor;
}

struct PackWeights : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    for (int index : bit_linear_nodes(block)) {
      const ir::Node& node = block.nodes[static_cast<size_t>(index)];
      const ir::ValueId codes = node.operands[1];
      if (block.type(codes).element != ir::ElementType::kU8) continue;
      const LinearShape shape = linear_shape(block, node);
      const auto layout = quant::PackedLayout::for_weights(ir::weight_spec(node), shape.n, shape.k);
      Result<ir::Tensor> packed = pack(module.weight_tensor(block, codes), layout);
      if (!packed.ok())
        return packed.status()
            .with_context(module.weight_name(block, codes))
            .with_context(node.name);
      module.replace_weight(block, codes, std::move(packed).value());
      if (quant::LayerReport* row = context.find_layer_report(node.name)) {
        row->encoding = quant::encoding_name(layout.encoding);
        row->packed_bytes = layout.total_bytes();
        row->parameter_bytes = ir::byte_size(block.type(node.operands[2])) +
                               ir::byte_size(block.type(node.operands[3]));
      }
    }
    return {};
  }
};

}  // namespace

std::unique_ptr<Pass> create_pack_weights() {
  return std::make_unique<PackWeights>();
}

}  // namespace abq::passes
