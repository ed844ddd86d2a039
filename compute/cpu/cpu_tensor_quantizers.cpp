// The quantizers of weights and tokens. Ranges and grids follow quant/affine.cpp operation for
// operation, in code that may not fuse a multiplication with an addition; the kernels only apply a
// grid.
#include "compute/cpu/cpu_tensor_device.h"
#include "compute/cpu/pieces.h"
#include "compute/cpu/weight_grid.h"
#include "compute/tensor_checks.h"

namespace abq::compute {
namespace {

using Kind = WeightQuantizer::Kind;

// The gradients of the range's bounds, from that of the scale.
Extremes range_gradient(Extremes range, const QuantizerGrid& grid, const WeightQuantizer& quantizer,
                        float dscale) {
  if (is_guarded(grid.scale)) return {};
  if (quantizer.kind == Kind::kAsymmetric) {
    const float d = dscale / grid.max_code;
    return {-d, d};
  }
  const float d = dscale * 2.0f / static_cast<float>(quantizer.steps);
  return range.high >= -range.low ? Extremes{0.0f, d} : Extremes{-d, 0.0f};
}

// Clip factors of one row or group.
struct Clip {
  float low = 1.0f;
  float high = 1.0f;
};

struct ClipGradient {
  float low = 0.0f;
  float high = 0.0f;
};

// dx for `count` values that share a grid; returns the gradient of the clip factors.
ClipGradient affine_backward(const TensorKernels& kernels, const WeightQuantizer& quantizer,
                             Clip clip, const float* x, const float* dy, int64_t count, float* dx) {
  const Extremes found = kernels.extremes(x, count);
  const Extremes range = {found.low * clip.low, found.high * clip.high};
  const QuantizerGrid grid = grid_of(range, quantizer);
  const float dscale = kernels.fake_quantize_backward(grid, x, dy, count, dx);
  const Extremes d = range_gradient(range, grid, quantizer, dscale);
  int64_t low = 0, high = 0;
  kernels.find_extremes(x, count, found, &low, &high);
  // An extreme of 0 is the bound that holds zero in the range, no element.
  if (found.low < 0.0f) dx[low] += d.low * clip.low;
  if (found.high > 0.0f) dx[high] += d.high * clip.high;
  return {d.low * found.low, d.high * found.high};
}

float mean_magnitude(const TensorKernels& kernels, const float* x, int64_t count) {
  return kernels.absolute_sum(x, count) / static_cast<float>(count);
}

void binary_backward(const TensorKernels& kernels, const float* x, const float* dy, int64_t count,
                     float* dx) {
  const float scale = 2.0f * mean_magnitude(kernels, x, count);
  const float d = kernels.binarize_backward(0.5f * guarded(scale), x, dy, count, dx);
  if (!is_guarded(scale)) kernels.add_signs(d / static_cast<float>(count), x, count, dx);
}

WeightQuantizer token_quantizer(const Tensor& x, int bits, int64_t segment) {
  check_tokens(x, bits, segment);
  return {.kind = Kind::kAsymmetric, .levels = 1 << bits, .group_size = segment};
}

Clip clip_of(const Tensor& low, const Tensor& high, int64_t group) {
  if (low.empty()) return {};
  return {low.as<float>()[group], high.as<float>()[group]};
}

RoundedGroup rounded_group(const Tensor& scales, const Tensor& zeros,
                           const WeightQuantizer& quantizer, int64_t group) {
  const float scale = scales.as<float>()[group];
  if (quantizer.kind == Kind::kBinary) return {.scale = scale, .binary = true};
  const float zero = zeros.as<float>()[group];
  return {.scale = scale,
          .low = 0.0f - zero,  // -zero would make 0 a negative one
          .high = static_cast<float>(quantizer.levels - 1) - zero};
}

// The operands of affine_weight, row by row.
struct AffineRows {
  const Tensor& w;
  const Tensor& row_scale;
  const Tensor& column_scale;
  const Tensor& a;
  const Tensor& b;

  AffineRows(const Tensor& weight, const Tensor& rows, const Tensor& columns, const Tensor& outer_a,
             const Tensor& outer_b)
      : w(weight), row_scale(rows), column_scale(columns), a(outer_a), b(outer_b) {
    check_affine_weight(weight, rows, columns, outer_a, outer_b);
  }
  AffineRow row(int64_t r) const {
    AffineRow result;
    result.w = w.as<float>() + r * w.cols();
    if (!row_scale.empty()) result.row_scale = row_scale.as<float>()[r];
    if (!column_scale.empty()) result.column_scale = column_scale.as<float>();
    if (a.empty()) return result;
    result.a = a.as<float>()[r];
    result.b = b.as<float>();
    return result;
  }
};

}  // namespace

Tensor CpuTensorDevice::fake_quantize_tokens(const Tensor& x, int bits, int64_t segment) {
  return fake_quantize_weight(x, {}, {}, token_quantizer(x, bits, segment));
}

Tensor CpuTensorDevice::fake_quantize_tokens_backward(const Tensor& x, int bits, int64_t segment,
                                                      const Tensor& dy) {
  return fake_quantize_weight_backward(x, {}, {}, token_quantizer(x, bits, segment), dy).w;
}

Tensor CpuTensorDevice::fake_quantize_weight(const Tensor& w, const Tensor& clip_low,
                                             const Tensor& clip_high,
                                             const WeightQuantizer& quantizer) {
  const int64_t length = check_weight_quantizer(w, clip_low, clip_high, quantizer);
  Tensor y = allocate(w.rows(), w.cols());
  if (memory_.failed()) return y;
  for_row_pieces(w.size() / length, length, [&](int64_t first, int64_t last) {
    for (int64_t g = first; g < last; ++g) {
      const float* const x = w.as<float>() + g * length;
      float* const out = y.as<float>() + g * length;
      if (quantizer.kind == Kind::kBinary) {
        const float scale = guarded(2.0f * mean_magnitude(tensor_kernels_, x, length));
        tensor_kernels_.binarize(0.5f * scale, x, length, out);
        continue;
      }
      const Clip clip = clip_of(clip_low, clip_high, g);
      Extremes range = tensor_kernels_.extremes(x, length);
      range.low *= clip.low;
      range.high *= clip.high;
      tensor_kernels_.fake_quantize(grid_of(range, quantizer), x, length, out);
    }
  });
  return y;
}

WeightGradient CpuTensorDevice::fake_quantize_weight_backward(const Tensor& w,
                                                              const Tensor& clip_low,
                                                              const Tensor& clip_high,
                                                              const WeightQuantizer& quantizer,
                                                              const Tensor& dy) {
  const int64_t length = check_weight_quantizer(w, clip_low, clip_high, quantizer);
  check_same_shape(w, dy);
  WeightGradient gradient;
  gradient.w = allocate(w.rows(), w.cols());
  if (!clip_low.empty()) {
    gradient.clip_low = allocate(clip_low.rows(), clip_low.cols());
    gradient.clip_high = allocate(clip_high.rows(), clip_high.cols());
  }
  if (memory_.failed()) return gradient;
  for_row_pieces(w.size() / length, length, [&](int64_t first, int64_t last) {
    for (int64_t g = first; g < last; ++g) {
      const float* const x = w.as<float>() + g * length;
      const float* const d = dy.as<float>() + g * length;
      float* const dx = gradient.w.as<float>() + g * length;
      ClipGradient dclip;
      if (quantizer.kind == Kind::kBinary) {
        binary_backward(tensor_kernels_, x, d, length, dx);
      } else {
        const Clip clip = clip_of(clip_low, clip_high, g);
        dclip = affine_backward(tensor_kernels_, quantizer, clip, x, d, length, dx);
      }
      if (clip_low.empty()) continue;
      gradient.clip_low.as<float>()[g] = dclip.low;
      gradient.clip_high.as<float>()[g] = dclip.high;
    }
  });
  return gradient;
}

Tensor CpuTensorDevice::rounded_weight(const Tensor& offsets, const Tensor& scales,
                                       const Tensor& zeros, const WeightQuantizer& quantizer) {
  const int64_t length = check_rounded_weight(offsets, scales, zeros, quantizer);
  Tensor y = allocate(offsets.rows(), offsets.cols());
  if (memory_.failed()) return y;
  for_row_pieces(offsets.size() / length, length, [&](int64_t first, int64_t last) {
    for (int64_t g = first; g < last; ++g) {
      tensor_kernels_.round_weight(rounded_group(scales, zeros, quantizer, g),
                                   offsets.as<float>() + g * length, length,
                                   y.as<float>() + g * length);
    }
  });
  return y;
}

RoundedWeightGradient CpuTensorDevice::rounded_weight_backward(
    const Tensor& offsets, const Tensor& scales, const Tensor& zeros,
    const WeightQuantizer& quantizer, const Tensor& dy, bool offsets_wanted) {
  const int64_t length = check_rounded_weight(offsets, scales, zeros, quantizer);
  check_same_shape(offsets, dy);
  RoundedWeightGradient gradient;
  if (offsets_wanted) gradient.offsets = allocate(offsets.rows(), offsets.cols());
  gradient.scales = allocate(scales.rows(), scales.cols());
  if (memory_.failed()) return gradient;
  for_row_pieces(offsets.size() / length, length, [&](int64_t first, int64_t last) {
    for (int64_t g = first; g < last; ++g) {
      gradient.scales.as<float>()[g] = tensor_kernels_.round_weight_backward(
          rounded_group(scales, zeros, quantizer, g), offsets.as<float>() + g * length,
          dy.as<float>() + g * length, length,
          offsets_wanted ? gradient.offsets.as<float>() + g * length : nullptr);
    }
  });
  return gradient;
}

Tensor CpuTensorDevice::affine_weight(const Tensor& w, const Tensor& row_scale,
                                      const Tensor& column_scale, const Tensor& a,
                                      const Tensor& b) {
  const AffineRows rows(w, row_scale, column_scale, a, b);
  Tensor y = allocate(w.rows(), w.cols());
  if (memory_.failed()) return y;
  for_row_pieces(w.rows(), w.cols(), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      tensor_kernels_.affine_row(rows.row(r), w.cols(), y.as<float>() + r * w.cols());
  });
  return y;
}

AffineGradient CpuTensorDevice::affine_weight_backward(const Tensor& w, const Tensor& row_scale,
                                                       const Tensor& column_scale, const Tensor& a,
                                                       const Tensor& b, const Tensor& dy,
                                                       bool w_wanted) {
  const AffineRows rows(w, row_scale, column_scale, a, b);
  check_same_shape(w, dy);
  const int64_t cols = w.cols();
  const auto like = [&](const Tensor& x) {
    return x.empty() ? Tensor() : allocate(x.rows(), x.cols());
  };
  AffineGradient gradient;
  if (w_wanted) gradient.w = like(w);
  gradient.row_scale = like(row_scale);
  gradient.column_scale = like(column_scale);
  gradient.a = like(a);
  gradient.b = like(b);
  const RowSums sums(w.rows(), cols);
  const Tensor partial = allocate(sums.pieces, 2 * cols);  // of column_scale and of b
  if (memory_.failed()) return gradient;
  sums.for_pieces([&](int64_t piece, int64_t first, int64_t last) {
    float* const sum = partial.as<float>() + piece * 2 * cols;
    std::fill_n(sum, 2 * cols, 0.0f);
    for (int64_t r = first; r < last; ++r) {
      AffineRowGradient out;
      out.w = w_wanted ? gradient.w.as<float>() + r * cols : nullptr;
      out.column_scale = column_scale.empty() ? nullptr : sum;
      out.b = sum + cols;
      tensor_kernels_.affine_row_backward(rows.row(r), dy.as<float>() + r * cols, cols, out);
      if (!row_scale.empty()) gradient.row_scale.as<float>()[r] = out.row_scale;
      if (!a.empty()) gradient.a.as<float>()[r] = out.a;
    }
  });
  if (!column_scale.empty()) add_rows(partial, 0, gradient.column_scale);
  if (!b.empty()) add_rows(partial, cols, gradient.b);
  return gradient;
}

}  // namespace abq::compute
