// The order in which learned passes take the calibration windows.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "support/random.h"

namespace abq::passes {

// Windows 0 .. count - 1 in an order that depends on the seed and the epoch.
inline std::vector<int64_t> shuffled_windows(int64_t count, uint64_t seed, int64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  Random random(seed * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(epoch));
  for (size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

}  // namespace abq::passes
