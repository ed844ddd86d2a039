// The kernels that only the tensor device needs: derivatives, quantizers, losses, the optimizer.
// One table per instruction set level, under the rules of compute/cpu/kernels.h.
//
// `count` elements are contiguous. An output may be the same array as an input of the same index.
#pragma once

#include <cstdint>

namespace abq::compute {

// Codes 0 .. max_code that stand for scale * (code - zero).
struct QuantizerGrid {
  float scale = 1.0f;
  float zero = 0.0f;
  float max_code = 0.0f;
};

// Minimum and maximum of some values and 0.
struct Extremes {
  float low = 0.0f;
  float high = 0.0f;
};

// The whole numbers that offsets of one group round to, times a scale: low .. high or (binary) -1
// and 1.
struct RoundedGroup {
  float scale = 1.0f;
  float low = 0.0f;
  float high = 0.0f;
  bool binary = false;
};

// One row y[k] = w[k] * row_scale * column_scale[k] + a * b[k]; a null vector is absent.
struct AffineRow {
  const float* w = nullptr;
  float row_scale = 1.0f;
  const float* column_scale = nullptr;
  float a = 0.0f;
  const float* b = nullptr;
};

struct AffineRowGradient {
  float* w = nullptr;             // null: not wanted
  float* column_scale = nullptr;  // added to
  float* b = nullptr;             // added to
  float row_scale = 0.0f;
  float a = 0.0f;
};

// sum = sum exp(x - high), high the largest x.
struct ExponentialSum {
  float high = 0.0f;
  double sum = 0.0;
};

// One row of two matrices of logits; softmax(x) = exp(x - high) * factor.
struct LogitRow {
  const float* y = nullptr;
  const float* target = nullptr;
  float y_high = 0.0f;
  float y_factor = 0.0f;
  float target_high = 0.0f;
  float target_factor = 0.0f;
  float shift = 0.0f;  // log sum exp(target) - log sum exp(y)
};

struct AdamWFactors {
  float rate;
  float kept_mean;      // beta1
  float new_mean;       // 1 - beta1
  float kept_variance;  // beta2
  float new_variance;   // 1 - beta2
  float mean_bias;      // 1 / (1 - beta1^step)
  float variance_bias;  // 1 / (1 - beta2^step)
  float epsilon;
  float decay;  // rate * weight_decay
};

struct TensorKernels {
  // ---- Elementwise
  void (*multiply)(const float* a, const float* b, int64_t count, float* y);
  void (*accumulate)(const float* x, float factor, int64_t count, float* sum);
  // y = alpha a + beta b.
  void (*combine)(float alpha, const float* a, float beta, const float* b, int64_t count, float* y);
  // y = factor (a - b).
  void (*scaled_difference)(float factor, const float* a, const float* b, int64_t count, float* y);
  void (*silu_mul_backward)(const float* gate, const float* up, const float* dy, int64_t count,
                            float* dgate, float* dup);
  void (*sigmoid)(const float* x, int64_t count, float* y);
  void (*sigmoid_backward)(const float* y, const float* dy, int64_t count, float* dx);
  void (*reciprocal)(const float* x, int64_t count, float* y);
  void (*reciprocal_backward)(const float* y, const float* dy, int64_t count, float* dx);
  void (*away_from_zero)(const float* x, float minimum, int64_t count, float* y);
  void (*adamw)(const AdamWFactors& factors, const float* gradient, int64_t count, float* parameter,
                float* mean, float* variance);

  // ---- Rows
  // dweight is added to.
  void (*rms_norm_backward)(const float* x, const float* weight, float eps, const float* dy,
                            int64_t count, float* dx, float* dweight);
  // low, high and squares are updated.
  void (*column_statistics)(const float* x, int64_t count, float* low, float* high, float* squares);
  // y[cols, rows] = x[rows, cols]^T.
  void (*transpose)(const float* x, int64_t x_stride, int64_t rows, int64_t cols, float* y,
                    int64_t y_stride);
  // x = softmax(scale x).
  void (*softmax)(float scale, int64_t count, float* x);
  // dx for y = softmax(scale x).
  void (*softmax_backward)(float scale, const float* y, const float* dy, int64_t count, float* dx);

  // ---- Quantizers
  Extremes (*extremes)(const float* x, int64_t count);
  // The first places of the extremes; undefined for one that is 0.
  void (*find_extremes)(const float* x, int64_t count, Extremes extremes, int64_t* low,
                        int64_t* high);
  // y = scale * (code of x - zero).
  void (*fake_quantize)(const QuantizerGrid& grid, const float* x, int64_t count, float* y);
  // dx = dy inside the codes, 0 outside; returns the gradient of the scale.
  float (*fake_quantize_backward)(const QuantizerGrid& grid, const float* x, const float* dy,
                                  int64_t count, float* dx);
  float (*absolute_sum)(const float* x, int64_t count);
  // y = half_scale with the sign of x, + for 0.
  void (*binarize)(float half_scale, const float* x, int64_t count, float* y);
  // dx = dy where |x| <= half_scale, else 0; returns the gradient of half_scale.
  float (*binarize_backward)(float half_scale, const float* x, const float* dy, int64_t count,
                             float* dx);
  // x += factor with the sign of `of`, 0 for 0.
  void (*add_signs)(float factor, const float* of, int64_t count, float* x);
  // y = scale * (whole number of the offset); NaN stays NaN.
  void (*round_weight)(const RoundedGroup& group, const float* offsets, int64_t count, float* y);
  // doffsets = dy * scale where rounding stays inside low .. high (binary: |offset| <= 1), else 0;
  // null: not wanted. Returns the gradient of the scale.
  float (*round_weight_backward)(const RoundedGroup& group, const float* offsets, const float* dy,
                                 int64_t count, float* doffsets);
  void (*affine_row)(const AffineRow& row, int64_t count, float* y);
  void (*affine_row_backward)(const AffineRow& row, const float* dy, int64_t count,
                              AffineRowGradient& gradient);

  // ---- Losses
  // products = a . b, a . a, b . b.
  void (*dot_products)(const float* a, const float* b, int64_t count, float products[3]);
  float (*squared_distance)(const float* a, const float* b, int64_t count);
  // sum (p - t) (log p - log t), both floored at `floor`.
  float (*divergence)(const float* p, const float* t, float floor, int64_t count);
  void (*divergence_backward)(const float* p, const float* t, float floor, float factor,
                              int64_t count, float* dp);
  ExponentialSum (*exponential_sum)(const float* x, int64_t count);
  // sum p_t (log p_t - log p_y), p the softmax of target and of y.
  float (*logit_divergence)(const LogitRow& row, int64_t count);
  // dy = factor (p_y - p_t).
  void (*logit_divergence_backward)(const LogitRow& row, float factor, int64_t count, float* dy);
};

}  // namespace abq::compute
