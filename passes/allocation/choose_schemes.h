// From what every width of every unit costs to one scheme for each.
#pragma once

#include <span>
#include <vector>

#include "passes/allocation/candidates.h"
#include "quant/recipe.h"
#include "quant/report.h"
#include "support/status.h"

namespace abq::passes {

// What a choice may cost; the other of the two is made least.
struct AllocationBudget {
  enum class Kind { kBytes, kKl } kind = Kind::kBytes;
  double limit = 0;  // bytes of all units, or the sum of their KLs
};

struct AllocationSums {
  int64_t bytes = 0;
  double kl = 0;
};
// Of the chosen schemes.
AllocationSums sums_of(std::span<const quant::UnitAllocation> units);

// Sets `chosen` of each unit, exactly (multiple_choice.h). False, with the cheapest choice set,
// when even that exceeds the budget.
bool choose_schemes(const AllocationBudget& budget, std::vector<quant::UnitAllocation>& units);

// The recipe with the chosen schemes: its scheme has the width that most weights got (the narrower
// of two with equally many), and each layer with another one an override of its own. The units are
// those of the candidates, with their choices in the order of the candidates' schemes.
quant::Recipe recipe_with_choices(const quant::Recipe& recipe,
                                  std::span<const CandidateUnit> candidates,
                                  std::span<const quant::UnitAllocation> units);

}  // namespace abq::passes
