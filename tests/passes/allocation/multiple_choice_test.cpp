#include "passes/allocation/multiple_choice.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "support/random.h"

namespace abq::passes {
namespace {

using Items = std::vector<std::vector<Option>>;

struct Sums {
  double cost = 0;
  double loss = 0;
};

Sums sums(const Items& items, const std::vector<size_t>& chosen) {
  Sums total;
  for (size_t i = 0; i < items.size(); ++i) {
    total.cost += items[i][chosen[i]].cost;
    total.loss += items[i][chosen[i]].loss;
  }
  return total;
}

// The least loss within the budget over all choices; infinite when there is none.
double least_loss(const Items& items, double budget, size_t item = 0, Sums so_far = {}) {
  if (so_far.cost > budget) return HUGE_VAL;
  if (item == items.size()) return so_far.loss;
  double least = HUGE_VAL;
  for (const Option& option : items[item])
    least = std::min(least, least_loss(items, budget, item + 1,
                                       {so_far.cost + option.cost, so_far.loss + option.loss}));
  return least;
}

// Whole numbers, so that sums are exact in any order.
Items random_items(Random& random, size_t count, size_t options) {
  Items items(count);
  for (std::vector<Option>& item : items)
    for (size_t i = 0; i < options; ++i)
      item.push_back(
          {static_cast<double>(random.below(100)), static_cast<double>(random.below(100))});
  return items;
}

// Losses that fall fourfold with each bit, as those of layers do, over `scales` orders of
// magnitude.
Items layers(Random& random, size_t count) {
  Items items(count);
  for (std::vector<Option>& item : items) {
    const double size = static_cast<double>(1 + random.below(4)) * 1e6;
    const double sensitivity = size * std::exp(2 * random.normal());
    for (const double bits : {2.0, 2.34, 3.0, 4.0, 5.0, 6.0, 8.0})
      item.push_back({std::floor(size * bits / 8) + static_cast<double>(random.below(500)),
                      sensitivity * std::pow(4.0, -bits) * (1 + 0.1 * random.uniform())});
  }
  return items;
}

}  // namespace

TEST_CASE("choices are as good as the best of all at every budget") {
  Random random(1);
  int feasible = 0;
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    const Items items = random_items(random, 1 + random.below(6), 1 + random.below(5));
    const auto budget = static_cast<double>(random.below(100 * items.size()));
    const double best = least_loss(items, budget);
    const auto chosen = solve_multiple_choice(items, budget);
    REQUIRE(chosen.has_value() == std::isfinite(best));
    if (!chosen) continue;
    ++feasible;
    CHECK(sums(items, *chosen).cost <= budget);
    CHECK(sums(items, *chosen).loss == best);
  }
  CHECK(feasible > 100);
}

TEST_CASE("a budget that only the cheapest options meet is met by them, and one below by none") {
  const Items items = {{{5, 9}, {7, 1}}, {{4, 2}, {3, 8}}};
  CHECK(solve_multiple_choice(items, 8) == std::vector<size_t>{0, 1});
  CHECK_FALSE(solve_multiple_choice(items, 7.999));
  CHECK(solve_multiple_choice(items, 1e9) == std::vector<size_t>{1, 0});
  CHECK(solve_multiple_choice({}, 0) == std::vector<size_t>{});
}

TEST_CASE("equal layers are shared out as a single one is, and always the same way") {
  const Items items(40, {{2, 16}, {3, 4}, {4, 1}});
  const auto chosen = solve_multiple_choice(items, 130);
  REQUIRE(chosen);
  // 30 at 3 and 10 at 4: every step from 2 to 3 gains more than one from 3 to 4.
  CHECK(sums(items, *chosen).cost == 130);
  CHECK(sums(items, *chosen).loss == 130);
  CHECK(solve_multiple_choice(items, 130) == chosen);
}

TEST_CASE("a model of 224 layers is solved within a hair of the relaxation's bound") {
  Random random(2);
  const Items items = layers(random, 224);
  double weights = 0;
  for (const std::vector<Option>& item : items)
    weights += item[2].cost * 8 / 3;
  const double budget = 3.1 * weights / 8;
  const auto chosen = solve_multiple_choice(items, budget);
  REQUIRE(chosen);
  const Sums total = sums(items, *chosen);
  CHECK(total.cost <= budget);
  // Lagrange: for every multiplier, the sum of the least loss + multiplier * cost, less multiplier
  // * budget, is no more than any choice's loss.
  double bound = 0;
  for (double multiplier = 1e-9; multiplier < 1e3; multiplier *= 1.02) {
    double priced = -multiplier * budget;
    for (const std::vector<Option>& item : items) {
      double least = HUGE_VAL;
      for (const Option& option : item)
        least = std::min(least, option.loss + multiplier * option.cost);
      priced += least;
    }
    bound = std::max(bound, priced);
  }
  CHECK(total.loss >= bound * (1 - 1e-9));
  CHECK(total.loss <= bound * 1.001);
}

}  // namespace abq::passes
