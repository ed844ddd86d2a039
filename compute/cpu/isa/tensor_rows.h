// Elementwise and row-wise kernels of the tensor device.
#pragma once

#include "compute/cpu/isa/attention.h"
#include "compute/cpu/isa/vector_loop.h"
#include "compute/cpu/tensor_kernels.h"

namespace abq::compute::ABQ_ISA_NAMESPACE {
namespace {

void multiply(const float* a, const float* b, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i)
    y[i] = a[i] * b[i];
}

void accumulate(const float* x, float factor, int64_t count, float* sum) {
  for (int64_t i = 0; i < count; ++i)
    sum[i] += factor * x[i];
}

void combine(float alpha, const float* a, float beta, const float* b, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i)
    y[i] = alpha * a[i] + beta * b[i];
}

void scaled_difference(float factor, const float* a, const float* b, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i)
    y[i] = factor * (a[i] - b[i]);
}

inline Float logistic(Float v) {
  return 1.0f / (1.0f + exp(-v));
}

void silu_mul_backward(const float* gate, const float* up, const float* dy, int64_t count,
                       float* dgate, float* dup) {
  for_vectors(count, [&](int64_t i, auto access) {
    const Float g = access.load(gate + i), u = access.load(up + i), d = access.load(dy + i);
    const Float s = logistic(g);
    access.store(dgate + i, d * u * (s * (1.0f + g * (1.0f - s))));
    access.store(dup + i, d * (g * s));
  });
}

void sigmoid(const float* x, int64_t count, float* y) {
  for_vectors(count,
              [&](int64_t i, auto access) { access.store(y + i, logistic(access.load(x + i))); });
}

void sigmoid_backward(const float* y, const float* dy, int64_t count, float* dx) {
  for (int64_t i = 0; i < count; ++i)
    dx[i] = dy[i] * y[i] * (1.0f - y[i]);
}

void reciprocal(const float* x, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i)
    y[i] = 1.0f / x[i];
}

void reciprocal_backward(const float* y, const float* dy, int64_t count, float* dx) {
  for (int64_t i = 0; i < count; ++i)
    dx[i] = -dy[i] * y[i] * y[i];
}

void away_from_zero(const float* x, float minimum, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) {
    const float v = x[i];
    const float bound = v < 0.0f ? -minimum : minimum;
    y[i] = v < minimum && v > -minimum ? bound : v;
  }
}

void adamw(const AdamWFactors& factors, const float* gradient, int64_t count, float* parameter,
           float* mean, float* variance) {
  const AdamWFactors f = factors;
  for (int64_t i = 0; i < count; ++i) {
    const float g = gradient[i];
    const float m = f.kept_mean * mean[i] + f.new_mean * g;
    const float v = f.kept_variance * variance[i] + f.new_variance * g * g;
    mean[i] = m;
    variance[i] = v;
    const float step = f.mean_bias * m / (__builtin_sqrtf(f.variance_bias * v) + f.epsilon);
    parameter[i] -= f.rate * step + f.decay * parameter[i];
  }
}

// y = r w x with r = 1 / sqrt(mean(x^2) + eps): dx = r (w dy - x r^2 mean(w dy x)).
void rms_norm_backward(const float* x, const float* weight, float eps, const float* dy,
                       int64_t count, float* dx, float* dweight) {
  const float scale = rms_scale(x, eps, count);
  Float sum = {};
  for_vectors(count, [&](int64_t i, auto access) {
    sum += access.load(weight + i) * access.load(dy + i) * access.load(x + i);
  });
  const float pull = sum_lanes(sum) / static_cast<float>(count) * scale * scale;
  for_vectors(count, [&](int64_t i, auto access) {
    const Float v = access.load(x + i), d = access.load(dy + i);
    access.store(dx + i, scale * (access.load(weight + i) * d - pull * v));
    access.store(dweight + i, access.load(dweight + i) + scale * v * d);
  });
}

// NaN stays: comparisons skip it, so that it is asked for.
void column_statistics(const float* x, int64_t count, float* low, float* high, float* squares) {
  for_vectors(count, [&](int64_t i, auto access) {
    const Float v = access.load(x + i), l = access.load(low + i), h = access.load(high + i);
    access.store(low + i, v < l || v != v ? v : l);
    access.store(high + i, v > h || v != v ? v : h);
    access.store(squares + i, access.load(squares + i) + v * v);
  });
}

void transpose(const float* x, int64_t x_stride, int64_t rows, int64_t cols, float* y,
               int64_t y_stride) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const float* row[4];
    for (int64_t i = 0; i < 4; ++i)
      row[i] = x + (r + i) * x_stride;
    int64_t c = 0;
    for (; c + 4 <= cols; c += 4)
      transpose_quad(row, c, y + c * y_stride + r, y_stride);
    for (; c < cols; ++c) {
      for (int64_t i = 0; i < 4; ++i)
        y[c * y_stride + r + i] = row[i][c];
    }
  }
  for (; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c)
      y[c * y_stride + r] = x[r * x_stride + c];
  }
}

void softmax(float scale, int64_t count, float* x) {
  scale_row(x, count, scale);
  const float sum = exp_in_place(x, count, max_of(x, count, kLowestScore));
  scale_row(x, count, 1.0f / sum);
}

void softmax_backward(float scale, const float* y, const float* dy, int64_t count, float* dx) {
  Float sum = {};
  for_vectors(count,
              [&](int64_t i, auto access) { sum += access.load(y + i) * access.load(dy + i); });
  const float mean = sum_lanes(sum);
  for (int64_t i = 0; i < count; ++i)
    dx[i] = scale * y[i] * (dy[i] - mean);
}

}  // namespace
}  // namespace abq::compute::ABQ_ISA_NAMESPACE
