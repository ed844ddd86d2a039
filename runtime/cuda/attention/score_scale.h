#pragma once

#include <cmath>

namespace abq::runtime::cuda {

// Scores to base 2: softmax(q k / sqrt(D)).
inline float score_scale(int head_dim) {
  return static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim)));
}

}  // namespace abq::runtime::cuda
