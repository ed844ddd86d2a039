#include "passes/allocation/multiple_choice.h"

#include <algorithm>

#include "support/status.h"

namespace abq::passes {
namespace {

// An item's option that no other one of it beats in both cost and loss.
struct Candidate {
  double cost = 0;
  double loss = 0;
  size_t option = 0;
};
// By rising cost and falling loss.
using Candidates = std::vector<Candidate>;

Candidates undominated(const std::vector<Option>& options) {
  ABQ_CHECK(!options.empty());
  Candidates all;
  for (size_t i = 0; i < options.size(); ++i)
    all.push_back({options[i].cost, options[i].loss, i});
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return a.cost != b.cost ? a.cost < b.cost : a.loss < b.loss;
  });
  Candidates kept;
  for (const Candidate& candidate : all)
    if (kept.empty() || candidate.loss < kept.back().loss) kept.push_back(candidate);
  return kept;
}

// A step from one corner of an item's lower convex hull to the next.
struct HullStep {
  size_t item = 0;
  size_t to = 0;  // index of a candidate
  double cost = 0;
  double gain = 0;

  double efficiency() const { return gain / cost; }
};

void append_hull(size_t item, const Candidates& candidates, std::vector<HullStep>& steps) {
  for (size_t from = 0; from + 1 < candidates.size();) {
    HullStep best;
    for (size_t to = from + 1; to < candidates.size(); ++to) {
      const HullStep step{item, to, candidates[to].cost - candidates[from].cost,
                          candidates[from].loss - candidates[to].loss};
      if (best.to == 0 || step.efficiency() >= best.efficiency()) best = step;
    }
    steps.push_back(best);
    from = best.to;
  }
}

// A choice within the budget, and the multiplier of the relaxation's optimum.
struct Relaxation {
  std::vector<size_t> chosen;  // candidates
  double loss = 0;
  double multiplier = 0;  // loss per cost
};

// Walks the hulls by falling efficiency. The first step that does not fit sets the multiplier;
// those behind it that fit are taken all the same.
Relaxation relax(const std::vector<Candidates>& items, double budget) {
  std::vector<HullStep> steps;
  for (size_t item = 0; item < items.size(); ++item)
    append_hull(item, items[item], steps);
  std::stable_sort(steps.begin(), steps.end(), [](const HullStep& a, const HullStep& b) {
    return a.efficiency() > b.efficiency();
  });
  Relaxation result;
  result.chosen.resize(items.size(), 0);
  double cost = 0;
  for (const Candidates& candidates : items)
    cost += candidates.front().cost;
  std::vector<bool> stopped(items.size(), false);
  for (const HullStep& step : steps) {
    if (stopped[step.item]) continue;
    if (cost + step.cost > budget) {
      stopped[step.item] = true;
      if (result.multiplier == 0) result.multiplier = step.efficiency();
      continue;
    }
    cost += step.cost;
    result.chosen[step.item] = step.to;
  }
  for (size_t item = 0; item < items.size(); ++item)
    result.loss += items[item][result.chosen[item]].loss;
  return result;
}

// Candidates of the items so far, as sums and the way back.
struct Partial {
  double cost = 0;
  double loss = 0;
  size_t before = 0;     // of the item before
  size_t candidate = 0;  // of this item
};

// The least that the items from here on add to a cost, and to loss + multiplier * cost.
struct Rest {
  double cost = 0;
  double priced = 0;
};

std::vector<Rest> rests(const std::vector<Candidates>& items, double multiplier) {
  std::vector<Rest> all(items.size() + 1);
  for (size_t i = items.size(); i-- > 0;) {
    double priced = items[i].front().loss + multiplier * items[i].front().cost;
    for (const Candidate& c : items[i])
      priced = std::min(priced, c.loss + multiplier * c.cost);
    all[i] = {all[i + 1].cost + items[i].front().cost, all[i + 1].priced + priced};
  }
  return all;
}

// Drops what another partial choice beats or equals in both sums.
void drop_dominated(std::vector<Partial>& partials) {
  std::stable_sort(partials.begin(), partials.end(), [](const Partial& a, const Partial& b) {
    return a.cost != b.cost ? a.cost < b.cost : a.loss < b.loss;
  });
  size_t kept = 0;
  for (const Partial& partial : partials)
    if (kept == 0 || partial.loss < partials[kept - 1].loss) partials[kept++] = partial;
  partials.resize(kept);
}

// The best choice of all, as candidates; that of the relaxation where rounding hid every other.
std::vector<size_t> search(const std::vector<Candidates>& items, const Relaxation& relaxation,
                           double budget) {
  const std::vector<Rest> rest = rests(items, relaxation.multiplier);
  const double allowed = relaxation.loss * (1 + 1e-12) + relaxation.multiplier * budget;
  std::vector<std::vector<Partial>> stages = {{Partial{}}};
  for (size_t i = 0; i < items.size(); ++i) {
    std::vector<Partial> next;
    for (size_t p = 0; p < stages.back().size(); ++p) {
      for (size_t c = 0; c < items[i].size(); ++c) {
        const Partial partial{stages.back()[p].cost + items[i][c].cost,
                              stages.back()[p].loss + items[i][c].loss, p, c};
        const double priced = partial.loss + relaxation.multiplier * partial.cost;
        if (partial.cost + rest[i + 1].cost <= budget &&
            priced + rest[i + 1].priced <= allowed * (1 + 1e-12))
          next.push_back(partial);
      }
    }
    drop_dominated(next);
    stages.push_back(std::move(next));
  }
  if (stages.back().empty() || stages.back().back().loss > relaxation.loss)
    return relaxation.chosen;
  std::vector<size_t> chosen(items.size());
  size_t at = stages.back().size() - 1;
  for (size_t i = items.size(); i-- > 0;) {
    const Partial& partial = stages[i + 1][at];
    chosen[i] = partial.candidate;
    at = partial.before;
  }
  return chosen;
}

}  // namespace

std::optional<std::vector<size_t>> solve_multiple_choice(std::span<const std::vector<Option>> items,
                                                         double budget) {
  std::vector<Candidates> reduced;
  double cheapest = 0;
  for (const std::vector<Option>& options : items) {
    reduced.push_back(undominated(options));
    cheapest += reduced.back().front().cost;
  }
  if (cheapest > budget) return std::nullopt;
  std::vector<size_t> chosen = search(reduced, relax(reduced, budget), budget);
  for (size_t i = 0; i < chosen.size(); ++i)
    chosen[i] = reduced[i][chosen[i]].option;
  return chosen;
}

}  // namespace abq::passes
