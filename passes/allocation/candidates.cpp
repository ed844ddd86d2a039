#include "passes/allocation/candidates.h"

#include <algorithm>
#include <array>

#include "passes/layers.h"
#include "passes/scheme_resolution.h"
#include "quant/gemm_variants.h"

namespace abq::passes {
namespace {

constexpr std::array kDefaultWidths = {
    WeightWidth{2, false}, WeightWidth{2, true},  WeightWidth{3, false}, WeightWidth{4, false},
    WeightWidth{5, false}, WeightWidth{6, false}, WeightWidth{8, false}};

bool has_override(const quant::Recipe& recipe, const std::string& layer) {
  return std::any_of(
      recipe.overrides.begin(), recipe.overrides.end(),
      [&](const quant::LayerOverride& o) { return pattern_matches(o.pattern, layer); });
}

Result<std::vector<quant::Scheme>> schemes_of(const quant::Scheme& given, LinearShape shape,
                                              std::span<const WeightWidth> widths) {
  std::vector<quant::Scheme> schemes;
  for (const WeightWidth& width : widths) {
    quant::Scheme scheme = given;
    scheme.weights.bits = width.bits;
    scheme.weights.balanced = width.balanced;
    ABQ_RETURN_IF_ERROR(quant::check_weight_spec(scheme.weights, shape.k));
    ABQ_RETURN_IF_ERROR(
        quant::select_gemm({scheme.weights, scheme.activation_bits, shape.n, shape.k}).status());
    schemes.push_back(scheme);
  }
  return schemes;
}

}  // namespace

Result<WeightWidth> parse_weight_width(std::string_view text) {
  const std::string_view digits = text.ends_with('b') ? text.substr(0, text.size() - 1) : text;
  const bool balanced = digits.size() < text.size();
  if (digits.size() == 1 && digits[0] >= '1' && digits[0] <= (balanced ? '2' : '8'))
    return WeightWidth{digits[0] - '0', balanced};
  return invalid_argument("width '{}': expected 1 to 8, 1b or 2b", text);
}

std::span<const WeightWidth> default_weight_widths() {
  return kDefaultWidths;
}

int64_t CandidateUnit::weights() const {
  int64_t sum = 0;
  for (const Layer& layer : layers)
    sum += layer.n * layer.k;
  return sum;
}

Result<std::vector<CandidateUnit>> find_candidates(
    const ir::Module& module, const quant::Recipe& recipe,
    const std::map<std::string, quant::Scheme>& schemes, std::span<const WeightWidth> widths,
    bool split_units) {
  if (widths.empty()) return invalid_argument("no candidate widths; give one at least");
  std::vector<CandidateUnit> units;
  for (const ir::Region& block : module.regions) {
    if (block.kind != ir::RegionKind::kBlock) continue;
    std::map<ir::ValueId, size_t> unit_of_input;
    for (const int index : linear_nodes(block)) {
      const ir::Node& node = block.nodes[static_cast<size_t>(index)];
      const LinearShape shape = linear_shape(block, node);
      CandidateUnit unit{{}, {schemes.at(node.name)}, has_override(recipe, node.name)};
      if (!unit.given) {
        Result<std::vector<quant::Scheme>> found = schemes_of(unit.schemes[0], shape, widths);
        if (!found.ok()) return found.status().with_context(node.name);
        unit.schemes = std::move(found).value();
      }
      size_t at = units.size();
      if (!unit.given && !split_units)
        at = unit_of_input.try_emplace(node.operands[0], at).first->second;
      if (at == units.size()) units.push_back(std::move(unit));
      units[at].layers.push_back({node.name, module.weight_name(block, node.operands[1]), shape.n,
                                  shape.k, block.type(node.operands[1]).element});
    }
  }
  return units;
}

}  // namespace abq::passes
