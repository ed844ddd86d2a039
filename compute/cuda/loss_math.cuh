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

// sum = sum exp(x - high), high the largest x so far: one pass over a row (arXiv 1805.02867).
struct ExponentialSum {
  float high = -3.0e38f;
  float sum = 0.0f;
};

// NaN does not move `high` and makes `sum` NaN.
ABQ_HOST_DEVICE void add_exponential(ExponentialSum& s, float x) {
  const bool higher = x > s.high;
  const float fallen = expf(-fabsf(x - s.high));
  s.sum = higher ? s.sum * fallen + 1.0f : s.sum + fallen;
  s.high = higher ? x : s.high;
}

// The sum over the same x with a `high` that is no smaller.
ABQ_HOST_DEVICE float sum_below(float high, const ExponentialSum& s) {
  return s.sum * expf(s.high - high);
}

// Two rows of logits, y and target: softmax(x) = exp(x - high) * factor.
struct LogitRow {
  float y_high;
  float y_factor;
  float target_high;
  float target_factor;
  float shift;  // log sum exp(target) - log sum exp(y)
};

ABQ_HOST_DEVICE LogitRow logit_row(float y_high, float y_sum, float target_high, float target_sum) {
  return {y_high, 1.0f / y_sum, target_high, 1.0f / target_sum,
          (target_high - y_high) + logf(target_sum / y_sum)};
}

// The two softmaxes at one column, and d = log p_t - log p_y. Both probabilities sum to 1, so that
// sum p_t d = sum (p_t (d - 1) + p_y): terms that are never negative, where those of sum p_t d
// would cancel. Up to kSmallDivergence they come from a series.
constexpr float kSmallDivergence = 0.5f;

struct LogitColumn {
  float p_target;
  float p_y;
  float d;

  ABQ_HOST_DEVICE bool small() const { return fabsf(d) < kSmallDivergence; }
  // e^-d - 1 + d for small d; the next term is below 2^-24 of it.
  ABQ_HOST_DEVICE float excess() const {
    float p = 1.0f / 40320;
    p = p * d - 1.0f / 5040;
    p = p * d + 1.0f / 720;
    p = p * d - 1.0f / 120;
    p = p * d + 1.0f / 24;
    p = p * d - 1.0f / 6;
    p = p * d + 0.5f;
    return p * d * d;
  }
  // Sums up to KL(p_t || p_y). Both ways are computed: a choice is cheaper than a branch.
  ABQ_HOST_DEVICE float divergence() const {
    const float series = p_target * excess();
    const float direct = p_target * (d - 1.0f) + p_y;
    return small() ? series : direct;
  }
  // p_y - p_t = p_t (e^-d - 1)
  ABQ_HOST_DEVICE float gradient() const {
    const float series = p_target * (excess() - d);
    const float direct = p_y - p_target;
    return small() ? series : direct;
  }
};

ABQ_HOST_DEVICE LogitColumn logit_column(const LogitRow& row, float y, float target) {
  return {expf(target - row.target_high) * row.target_factor, expf(y - row.y_high) * row.y_factor,
          (target - y) - row.shift};
}

}  // namespace abq::compute::cuda
