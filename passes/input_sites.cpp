#include "passes/input_sites.h"

#include <algorithm>

#include "passes/layers.h"

namespace abq::passes {

Result<std::vector<InputSite>> find_input_sites(
    const ir::Block& block, const std::map<std::string, quant::Scheme>& schemes) {
  std::vector<InputSite> sites;
  for (const int index : linear_nodes(block)) {
    const ir::Node& linear = block.nodes[static_cast<size_t>(index)];
    const auto scheme = schemes.find(linear.name);
    if (scheme == schemes.end())
      return invalid_argument("{}: has no scheme; run assign-schemes before", linear.name);
    if (!scheme->second.weights.quantized()) continue;
    const ir::ValueId input = linear.operands[0];
    const int bits = scheme->second.activation_bits;
    const auto same = [&](const InputSite& s) { return s.input == input && s.bits == bits; };
    auto site = std::find_if(sites.begin(), sites.end(), same);
    if (site == sites.end()) site = sites.insert(sites.end(), {input, bits, {}});
    site->linears.push_back(index);
  }
  return sites;
}

}  // namespace abq::passes
