// The formulas of the losses for one row or one element.
#pragma once

#include <cmath>

#include "compute/cuda/portable_math.cuh"

namespace abq::compute::cuda {

// cos = y t / max(|y| |t|, 1e-8); its gradient in y is t * of_target - y * of_y.
struct Cosine {
  float value;
  float of_target;  // 1 / (|y| |t|)
  float of_y;       // cos / |y|^2
};

// Norms are rooted one by one: their squares' product underflows long before the norms do. At the
// guard the denominator is a constant.
ABQ_HOST_DEVICE Cosine cosine_of(float dot, float y_squares, float target_squares) {
  constexpr float kGuard = 1e-8f;
  const float norms = sqrtf(y_squares) * sqrtf(target_squares);
  if (norms < kGuard) return {dot / kGuard, 1.0f / kGuard, 0.0f};
  const float value = dot / norms;
  return {value, 1.0f / norms, value / y_squares};
}

constexpr float kProbabilityFloor = 1e-8f;

// NaN stays NaN.
ABQ_HOST_DEVICE float floored(float p) {
  return p < kProbabilityFloor ? kProbabilityFloor : p;
}

// (p - t) (log p - log t). The logarithm of the quotient keeps its digits where p is close to t.
ABQ_HOST_DEVICE float divergence_of(float p, float target) {
  const float a = floored(p);
  const float b = floored(target);
  return (a - b) * logf(a / b);
}

// log(p / t) + (p - t) / p
ABQ_HOST_DEVICE float divergence_gradient(float p, float target) {
  if (p < kProbabilityFloor) return 0.0f;
  const float b = floored(target);
  return logf(p / b) + (p - b) / p;
}

}  // namespace abq::compute::cuda
