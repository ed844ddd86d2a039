// The losses, and the table of all kernels of the tensor device.
#pragma once

#include "compute/cpu/isa/hadamard.h"
#include "compute/cpu/isa/tensor_quantizers.h"
#include "compute/cpu/isa/tensor_rows.h"

namespace abq::compute::ABQ_ISA_NAMESPACE {
namespace {

void dot_products(const float* a, const float* b, int64_t count, float products[3]) {
  Float ab = {}, aa = {}, bb = {};
  for_vectors(count, [&](int64_t i, auto access) {
    const Float u = access.load(a + i), v = access.load(b + i);
    ab += u * v;
    aa += u * u;
    bb += v * v;
  });
  products[0] = sum_lanes(ab);
  products[1] = sum_lanes(aa);
  products[2] = sum_lanes(bb);
}

float squared_distance(const float* a, const float* b, int64_t count) {
  Float sum = {};
  for_vectors(count, [&](int64_t i, auto access) {
    const Float difference = access.load(a + i) - access.load(b + i);
    sum += difference * difference;
  });
  return sum_lanes(sum);
}

// NaN stays NaN: a loss must show it.
inline Float floored(Float v, float floor) {
  return v < floor ? broadcast(floor) : v;
}

// log p - log t as log(p / t): where both are nearly the same, two logarithms would leave little of
// their difference.
float divergence(const float* p, const float* t, float floor, int64_t count) {
  Float sum = {};
  for_vectors(count, [&](int64_t i, auto access) {
    const Float u = floored(access.load(p + i), floor), v = floored(access.load(t + i), floor);
    sum += (u - v) * log(u / v);
  });
  return sum_lanes(sum);
}

void divergence_backward(const float* p, const float* t, float floor, float factor, int64_t count,
                         float* dp) {
  for_vectors(count, [&](int64_t i, auto access) {
    const Float given = access.load(p + i);
    const Float u = floored(given, floor), v = floored(access.load(t + i), floor);
    const Float gradient = factor * (log(u / v) + (u - v) / u);
    access.store(dp + i, given < floor ? Float{} : gradient);
  });
}

// Sums of long rows: in float32 over this many elements, in float64 over those parts.
constexpr int64_t kSumPart = 4096;

// The sum of term(i, access) over the vectors of `count` elements.
template <class Term>
inline double sum_of_parts(int64_t count, const Term& term) {
  double total = 0;
  for (int64_t first = 0; first < count; first += kSumPart) {
    Float sum = {};
    for_vectors(count - first < kSumPart ? count - first : kSumPart,
                [&](int64_t i, auto access) { sum += access.kept(term(first + i, access)); });
    total += static_cast<double>(sum_lanes(sum));
  }
  return total;
}

ExponentialSum exponential_sum(const float* x, int64_t count) {
  const float high = max_of(x, count, kLowestScore);
  return {high, sum_of_parts(
                    count, [&](int64_t i, auto access) { return exp(access.load(x + i) - high); })};
}

// Two softmaxes at the columns of a vector, and d = log p_t - log p_y. Both probabilities sum to 1,
// so that sum p_t d = sum (p_t (d - 1) + p_y): terms that are never negative, where those of
// sum p_t d would cancel. Up to kSmallDivergence they come from a series.
constexpr float kSmallDivergence = 0.5f;

struct LogitColumns {
  Float p_target;
  Float p_y;
  Float d;
  Int small;

  template <class Access>
  LogitColumns(const LogitRow& row, int64_t i, Access access) {
    const Float y = access.load(row.y + i), target = access.load(row.target + i);
    p_target = exp(target - row.target_high) * row.target_factor;
    p_y = exp(y - row.y_high) * row.y_factor;
    d = (target - y) - row.shift;
    small = absolute(d) < kSmallDivergence;
  }

  // e^-d - 1 + d for small d; the next term is below 2^-24 of it.
  Float excess() const {
    Float p = broadcast(1.0f / 40320);
    p = p * d - 1.0f / 5040;
    p = p * d + 1.0f / 720;
    p = p * d - 1.0f / 120;
    p = p * d + 1.0f / 24;
    p = p * d - 1.0f / 6;
    p = p * d + 0.5f;
    return p * d * d;
  }
};

float logit_divergence(const LogitRow& row, int64_t count) {
  const LogitRow r = row;
  return static_cast<float>(sum_of_parts(count, [&](int64_t i, auto access) {
    const LogitColumns c(r, i, access);
    return c.small ? c.p_target * c.excess() : c.p_target * (c.d - 1.0f) + c.p_y;
  }));
}

// p_y - p_t = p_t (e^-d - 1).
void logit_divergence_backward(const LogitRow& row, float factor, int64_t count, float* dy) {
  const LogitRow r = row;
  for_vectors(count, [&](int64_t i, auto access) {
    const LogitColumns c(r, i, access);
    access.store(dy + i, factor * (c.small ? c.p_target * (c.excess() - c.d) : c.p_y - c.p_target));
  });
}

constexpr TensorKernels kTensorKernels = {multiply,
                                          accumulate,
                                          combine,
                                          scaled_difference,
                                          silu_mul_backward,
                                          sigmoid,
                                          sigmoid_backward,
                                          reciprocal,
                                          reciprocal_backward,
                                          away_from_zero,
                                          adamw,
                                          rms_norm_backward,
                                          column_statistics,
                                          transpose,
                                          softmax,
                                          softmax_backward,
                                          extremes,
                                          find_extremes,
                                          fake_quantize,
                                          fake_quantize_backward,
                                          absolute_sum,
                                          binarize,
                                          binarize_backward,
                                          add_signs,
                                          round_weight,
                                          round_weight_backward,
                                          affine_row,
                                          affine_row_backward,
                                          dot_products,
                                          squared_distance,
                                          divergence,
                                          divergence_backward,
                                          exponential_sum,
                                          logit_divergence,
                                          logit_divergence_backward};

}  // namespace
}  // namespace abq::compute::ABQ_ISA_NAMESPACE
