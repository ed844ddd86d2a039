// Which widths each block linear may get.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "quant/recipe.h"
#include "support/status.h"

namespace abq::passes {

// A number of weight levels, as in schemes: "2", "2b".
struct WeightWidth {
  int bits = 0;
  bool balanced = false;
};
// InvalidArgument unless it is 1 to 8, or 1b or 2b.
Result<WeightWidth> parse_weight_width(std::string_view text);
// What is tried unless others are asked for: 2, 2b, 3, 4, 5, 6, 8.
std::span<const WeightWidth> default_weight_widths();

// Layers that get one scheme together.
struct CandidateUnit {
  struct Layer {
    std::string name;
    std::string weight;  // its tensor
    int64_t n = 0;
    int64_t k = 0;
    ir::ElementType element = ir::ElementType::kF32;  // of the tensor
  };
  std::vector<Layer> layers;
  std::vector<quant::Scheme> schemes;  // of weights and inputs
  bool given = false;                  // by an override: there is no choice

  int64_t weights() const;
};

// All block linears, each in one unit. A layer that an override of the recipe names is one by
// itself and has the scheme that it has in `schemes` (assign-schemes, balance-bits) alone; all
// others have that one with each of the widths. Those that read one value make one unit, since a
// device runs them in one launch where their weights are quantized alike; with `split_units` each
// is one of its own. InvalidArgument when there are no widths or one cannot quantize a layer,
// Unsupported when a pair has no kernel, both with the layer's name.
Result<std::vector<CandidateUnit>> find_candidates(
    const ir::Module& module, const quant::Recipe& recipe,
    const std::map<std::string, quant::Scheme>& schemes, std::span<const WeightWidth> widths,
    bool split_units);

}  // namespace abq::passes
