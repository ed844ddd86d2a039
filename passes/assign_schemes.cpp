// Gives every block linear its scheme and every attention its widths, as the recipe asks.
//
//   attention(q, k, v) {query_bits = 16, kv_bits = 16}  ==>  {query_bits = q, kv_bits = kv}
//
// Layer schemes go to PassContext::layer_schemes, bit balance left out (balance-bits adds it). All
// problems of a recipe are reported together.
#include <fmt/ranges.h>

#include <algorithm>

#include "passes/layers.h"
#include "passes/passes.h"
#include "passes/scheme_resolution.h"

namespace abq::passes {
namespace {

struct BlockLinear {
  std::string name;
  int64_t k = 0;
};

std::vector<BlockLinear> block_linears(const ir::Module& module) {
  std::vector<BlockLinear> layers;
  for (const ir::Region& region : module.regions) {
    if (region.kind != ir::RegionKind::kBlock) continue;
    for (int index : linear_nodes(region)) {
      const ir::Node& node = region.nodes[static_cast<size_t>(index)];
      layers.push_back({node.name, linear_shape(region, node).k});
    }
  }
  return layers;
}

Status check_override(const quant::LayerOverride& override, std::span<const std::string> names) {
  const bool matches = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return pattern_matches(override.pattern, name);
  });
  if (!matches)
    return invalid_argument("override '{}': matches no block linear; near names are {}",
                            override.pattern,
                            fmt::join(nearest_names(override.pattern, names, 3), ", "));
  if (override.scheme.kv_bits != 16 || override.scheme.query_bits != 16)
    return invalid_argument(
        "override '{}': scheme {} sets kv or q bits, which belong to attention; set them in the "
        "recipe's own scheme",
        override.pattern, quant::to_string(override.scheme));
  return {};
}

Status check_layer(const BlockLinear& layer, const quant::Scheme& scheme) {
  if (!scheme.weights.quantized() && scheme.activation_bits < 16)
    return invalid_argument(
        "{}: scheme {} quantizes activations against float weights; use w8a{} or w16a16",
        layer.name, quant::to_string(scheme), scheme.activation_bits);
  return quant::check_weight_spec(scheme.weights, layer.k).with_context(layer.name);
}

void set_attention_widths(ir::Module& module, const quant::Scheme& scheme) {
  for (ir::Region& region : module.regions)
    for (ir::Node& node : region.nodes)
      if (node.op == ir::Op::kAttention) {
        node.attributes["query_bits"] = int64_t{scheme.query_bits};
        node.attributes["kv_bits"] = int64_t{scheme.kv_bits};
      }
}

struct AssignSchemes : GraphPass {
  Status run(ir::Module& module, PassContext& context) override {
    const std::vector<BlockLinear> layers = block_linears(module);
    std::vector<std::string> names;
    for (const BlockLinear& layer : layers)
      names.push_back(layer.name);

    std::vector<std::string> problems;
    const auto note = [&](const Status& status) {
      if (!status.ok()) problems.push_back(status.message());
    };
    for (const quant::LayerOverride& override : context.recipe.overrides)
      note(check_override(override, names));
    context.layer_schemes.clear();
    for (const BlockLinear& layer : layers) {
      quant::Scheme scheme = requested_scheme(context.recipe, layer.name);
      scheme.weights.balanced = false;
      note(check_layer(layer, scheme));
      context.layer_schemes[layer.name] = scheme;
    }
    if (!problems.empty()) return invalid_argument("{}", fmt::join(problems, "\n"));
    set_attention_widths(module, context.recipe.scheme);
    return {};
  }
};

}  // namespace

std::unique_ptr<Pass> create_assign_schemes() {
  return std::make_unique<AssignSchemes>();
}

}  // namespace abq::passes
