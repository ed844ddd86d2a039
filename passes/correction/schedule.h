// How learned passes go over the calibration windows: their order, and the rates on the way.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
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

// From 1 to 0 along half a cosine, as `done` goes from 0 to 1.
inline double cosine_decay(double done) {
  return 0.5 * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace abq::passes
