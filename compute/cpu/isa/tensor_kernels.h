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
                                          affine_row,
                                          affine_row_backward,
                                          dot_products,
                                          squared_distance,
                                          divergence,
                                          divergence_backward};

}  // namespace
}  // namespace abq::compute::ABQ_ISA_NAMESPACE
