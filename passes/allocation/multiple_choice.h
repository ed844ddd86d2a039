// The multiple-choice knapsack: one option of each item, so that losses add up to the least that a
// budget of costs allows.
//
// Exact. Items are taken up one by one, keeping those partial choices that no other one beats in
// both sums (Nemhauser, Ullmann 1969). The Lagrangian relaxation, whose best multiplier is where
// the convex hulls of the items' options meet the budget (Sinha, Zoltners 1979), gives both a good
// choice to begin with and a bound on how any partial choice can end: what cannot end better than
// the good one is dropped, which leaves few of them.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace abq::passes {

// Finite, and not negative.
struct Option {
  double cost = 0;
  double loss = 0;
};

// The index of the chosen option for each item (none of which is empty); nothing when even the
// cheapest options cost more than the budget. Of several best choices always the same one.
std::optional<std::vector<size_t>> solve_multiple_choice(std::span<const std::vector<Option>> items,
                                                         double budget);

}  // namespace abq::passes
