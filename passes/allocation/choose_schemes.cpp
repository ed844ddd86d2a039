#include "passes/allocation/choose_schemes.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "passes/allocation/multiple_choice.h"

namespace abq::passes {
namespace {

using Kind = AllocationBudget::Kind;

std::vector<Option> options_of(const quant::UnitAllocation& unit, Kind budget) {
  std::vector<Option> options;
  for (const quant::SchemeChoice& choice : unit.choices) {
    const auto bytes = static_cast<double>(choice.bytes);
    options.push_back(budget == Kind::kBytes ? Option{bytes, choice.kl} : Option{choice.kl, bytes});
  }
  return options;
}

size_t cheapest(const std::vector<Option>& options) {
  const auto least =
      std::min_element(options.begin(), options.end(),
                       [](const Option& a, const Option& b) { return a.cost < b.cost; });
  return static_cast<size_t>(least - options.begin());
}

}  // namespace

AllocationSums sums_of(std::span<const quant::UnitAllocation> units) {
  AllocationSums sums;
  for (const quant::UnitAllocation& unit : units) {
    const quant::SchemeChoice& choice = unit.choices[static_cast<size_t>(unit.chosen)];
    sums.bytes += choice.bytes;
    sums.kl += choice.kl;
  }
  return sums;
}

bool choose_schemes(const AllocationBudget& budget, std::vector<quant::UnitAllocation>& units) {
  std::vector<std::vector<Option>> items;
  for (const quant::UnitAllocation& unit : units)
    items.push_back(options_of(unit, budget.kind));
  const std::optional<std::vector<size_t>> solved = solve_multiple_choice(items, budget.limit);
  for (size_t i = 0; i < units.size(); ++i)
    units[i].chosen = static_cast<int64_t>(solved ? (*solved)[i] : cheapest(items[i]));
  return solved.has_value();
}

quant::Recipe recipe_with_choices(const quant::Recipe& recipe,
                                  std::span<const CandidateUnit> candidates,
                                  std::span<const quant::UnitAllocation> units) {
  const auto scheme_of = [&](size_t i) -> const quant::Scheme& {
    return candidates[i].schemes[static_cast<size_t>(units[i].chosen)];
  };
  // By bits and levels, so that 2b stands between 2 and 3.
  using Width = std::tuple<int, int>;
  std::map<Width, int64_t> weights;
  std::map<Width, quant::WeightSpec> specs;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].given) continue;
    const quant::WeightSpec& spec = scheme_of(i).weights;
    weights[{spec.bits, spec.levels()}] += candidates[i].weights();
    specs[{spec.bits, spec.levels()}] = spec;
  }
  quant::Recipe chosen = recipe;
  if (!weights.empty()) {
    const auto most =
        std::max_element(weights.begin(), weights.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    chosen.scheme.weights = specs[most->first];
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].given || scheme_of(i).weights == chosen.scheme.weights) continue;
    for (const CandidateUnit::Layer& layer : candidates[i].layers)
      chosen.overrides.push_back({layer.name, scheme_of(i)});
  }
  return chosen;
}

}  // namespace abq::passes
