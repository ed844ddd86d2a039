// Row-wise and elementwise kernels. A ragged end goes through the same vector code with a partial
// load, so that an element's value does not depend on where its row ends.
#pragma once

#include "compute/cpu/isa/vector.h"

namespace abq::compute::ABQ_ISA_NAMESPACE {
namespace {

// 1 / sqrt(mean(x^2) + eps).
float rms_scale(const float* x, float eps, int64_t count) {
  Float sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      const Float v = load(x + i + u * kLanes);
      sum[u] += v * v;
    }
  }
  for (; i < count; i += kLanes) {
    const Float v = i + kLanes <= count ? load(x + i) : load_partial(x + i, count - i);
    sum[0] += v * v;
  }
  const float squares = sum_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
  return 1.0f / __builtin_sqrtf(squares / static_cast<float>(count) + eps);
}

void rms_norm(const float* x, const float* weight, float eps, int64_t count, float* y) {
  const float scale = rms_scale(x, eps, count);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    store(y + i, load(x + i) * scale * load(weight + i));
  for (; i < count; ++i)
    y[i] = x[i] * scale * weight[i];
}

inline Float silu(Float v) {
  return v / (1.0f + exp(-v));
}

void silu_mul(const float* gate, const float* up, int64_t count, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    store(y + i, silu(load(gate + i)) * load(up + i));
  if (i < count) {
    const Float last = silu(load_partial(gate + i, count - i)) * load_partial(up + i, count - i);
    store_partial(y + i, last, count - i);
  }
}

void add(const float* a, const float* b, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i)
    y[i] = a[i] + b[i];
}

float sum(const float* values, int64_t count) {
  // As many loads in flight as the matrix-vector product has, and its way of asking ahead.
  constexpr int64_t kAhead = 2048;
  Float partial[8] = {};
  int64_t i = 0;
  for (; i + 8 * kLanes <= count; i += 8 * kLanes) {
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) {
      if (u * kLanes % 16 == 0) __builtin_prefetch(values + i + u * kLanes + kAhead);
      partial[u] += load(values + i + u * kLanes);
    }
  }
  float total = 0.0f;
  for (int u = 0; u < 8; ++u)
    total += sum_lanes(partial[u]);
  for (; i < count; ++i)
    total += values[i];
  return total;
}

void rope(float* x, int64_t heads, int64_t head_dim, const float* cosines, const float* sines) {
  const int64_t half = head_dim / 2;
  for (int64_t h = 0; h < heads; ++h) {
    float* low = x + h * head_dim;
    float* high = low + half;
    int64_t j = 0;
    for (; j + kLanes <= half; j += kLanes) {
      const Float a = load(low + j), b = load(high + j);
      const Float c = load(cosines + j), s = load(sines + j);
      store(low + j, a * c - b * s);
      store(high + j, b * c + a * s);
    }
    for (; j < half; ++j) {
      const float a = low[j], b = high[j];
      low[j] = a * cosines[j] - b * sines[j];
      high[j] = b * cosines[j] + a * sines[j];
    }
  }
}

template <class T>
void convert(const T* in, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    store(out + i, load(in + i));
  if (i < count) store_partial(out + i, load_partial(in + i, count - i), count - i);
}

void to_float(FloatType type, const void* in, int64_t count, float* out) {
  if (type == FloatType::kF32) {
    convert(static_cast<const float*>(in), count, out);
  } else if (type == FloatType::kF16) {
    convert(static_cast<const F16*>(in), count, out);
  } else {
    convert(static_cast<const Bf16*>(in), count, out);
  }
}

}  // namespace
}  // namespace abq::compute::ABQ_ISA_NAMESPACE
