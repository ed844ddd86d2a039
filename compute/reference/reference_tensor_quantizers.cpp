#include <algorithm>
#include <cmath>
#include <limits>

#include "compute/reference/reference_tensor_device.h"
#include "compute/tensor_checks.h"

namespace abq::compute {
namespace {

using Kind = WeightQuantizer::Kind;

constexpr double kMinScale = 1e-8;

// `count` values that share a scale, with their clip factors.
struct Group {
  const double* x;
  int64_t count;
  double clip_low = 1.0;
  double clip_high = 1.0;
};

// The quantizer of one group and what its derivative needs.
struct Grid {
  double scale = 0;
  bool guarded = false;
  double zero = 0;
  double max_code = 0;
  int64_t lowest = 0;   // first place of the minimum, NaN skipped
  int64_t highest = 0;  // first place of the maximum
  double minimum = 0;   // 0 when all are NaN
  double maximum = 0;
  // Derivatives of the scale by the bounds of the clipped range; 0 where a bound is held at 0.
  double dscale_dlow = 0;
  double dscale_dhigh = 0;
};

void find_extremes(const Group& group, Grid& grid) {
  bool any = false;
  for (int64_t i = 0; i < group.count; ++i) {
    const double v = group.x[i];
    if (std::isnan(v)) continue;
    if (!any || v < grid.minimum) {
      grid.minimum = v;
      grid.lowest = i;
    }
    if (!any || v > grid.maximum) {
      grid.maximum = v;
      grid.highest = i;
    }
    any = true;
  }
}

// The code of an element; NaN has code 0.
double clamped(double code, const Grid& grid) {
  return std::isnan(code) ? 0.0 : std::clamp(code, 0.0, grid.max_code);
}

Grid make_grid(const Group& group, const WeightQuantizer& quantizer) {
  Grid grid;
  find_extremes(group, grid);
  const double low = std::min(grid.minimum * group.clip_low, 0.0);
  const double high = std::max(grid.maximum * group.clip_high, 0.0);
  grid.max_code = quantizer.levels - 1;
  if (std::isnan(low) || std::isnan(high)) {
    // A clip factor is NaN, and so is everything on the grid.
    grid.scale = std::numeric_limits<double>::quiet_NaN();
    grid.guarded = true;
    return grid;
  }
  if (quantizer.kind == Kind::kAsymmetric) {
    grid.scale = (high - low) / grid.max_code;
    grid.dscale_dlow = low < 0.0 ? -1.0 / grid.max_code : 0.0;
    grid.dscale_dhigh = high > 0.0 ? 1.0 / grid.max_code : 0.0;
  } else {
    const double bound = std::max(high, -low);
    grid.scale = 2.0 * bound / quantizer.steps;
    if (bound > 0.0 && high >= -low) grid.dscale_dhigh = 2.0 / quantizer.steps;
    if (bound > 0.0 && high < -low) grid.dscale_dlow = -2.0 / quantizer.steps;
  }
  grid.guarded = grid.scale <= kMinScale;
  if (grid.guarded) grid.scale = kMinScale;
  grid.zero = quantizer.kind == Kind::kAsymmetric
                  ? std::clamp(std::nearbyint(-low / grid.scale), 0.0, grid.max_code)
                  : quantizer.zero;
  return grid;
}

void fake_quantize(const Group& group, const WeightQuantizer& quantizer, double* y) {
  const Grid grid = make_grid(group, quantizer);
  for (int64_t i = 0; i < group.count; ++i) {
    const double code = clamped(std::nearbyint(group.x[i] / grid.scale) + grid.zero, grid);
    y[i] = grid.scale * (code - grid.zero);
  }
}

void fake_quantize_backward(const Group& group, const WeightQuantizer& quantizer, const double* dy,
                            double* dx, double* dclip_low, double* dclip_high) {
  const Grid grid = make_grid(group, quantizer);
  double dscale = 0;
  for (int64_t i = 0; i < group.count; ++i) {
    const double code = std::nearbyint(group.x[i] / grid.scale) + grid.zero;
    if (code >= 0.0 && code <= grid.max_code) {
      // y = s (round(x / s)): dy/dx = 1, dy/ds = round(x / s) + s (-x / s^2).
      dx[i] = dy[i];
      dscale += dy[i] * (code - grid.zero - group.x[i] / grid.scale);
    } else {
      dx[i] = 0.0;
      dscale += dy[i] * (clamped(code, grid) - grid.zero);
    }
  }
  if (grid.guarded) dscale = 0;
  const double dlow = dscale * grid.dscale_dlow, dhigh = dscale * grid.dscale_dhigh;
  *dclip_low = dlow * grid.minimum;
  *dclip_high = dhigh * grid.maximum;
  dx[grid.lowest] += dlow * group.clip_low;
  dx[grid.highest] += dhigh * group.clip_high;
}

// Half the scale of binary weights: mean |x|, guarded as the whole scale is.
double binary_scale(const Group& group, bool* guarded) {
  double sum = 0;
  for (int64_t i = 0; i < group.count; ++i)
    sum += std::abs(group.x[i]);
  const double scale = 2.0 * sum / static_cast<double>(group.count);
  *guarded = !(scale > kMinScale);
  return (*guarded ? kMinScale : scale) / 2.0;
}

void binarize(const Group& group, double* y) {
  bool guarded = false;
  const double scale = binary_scale(group, &guarded);
  for (int64_t i = 0; i < group.count; ++i)
    y[i] = group.x[i] >= 0.0 ? scale : -scale;
}

void binarize_backward(const Group& group, const double* dy, double* dx) {
  bool guarded = false;
  const double scale = binary_scale(group, &guarded);
  double dscale = 0;
  for (int64_t i = 0; i < group.count; ++i) {
    dx[i] = std::abs(group.x[i]) <= scale ? dy[i] : 0.0;
    dscale += group.x[i] >= 0.0 ? dy[i] : -dy[i];
  }
  if (guarded) return;
  for (int64_t i = 0; i < group.count; ++i) {
    const double sign = group.x[i] > 0.0 ? 1.0 : (group.x[i] < 0.0 ? -1.0 : 0.0);
    dx[i] += dscale * sign / static_cast<double>(group.count);
  }
}

// body(index, group) over all rows or groups of w.
template <class Body>
void for_groups(const Tensor& w, const Tensor& clip_low, const Tensor& clip_high,
                const WeightQuantizer& quantizer, const Body& body) {
  const int64_t length = check_weight_quantizer(w, clip_low, clip_high, quantizer);
  for (int64_t g = 0; g < w.size() / length; ++g) {
    Group group = {.x = w.as<double>() + g * length, .count = length};
    if (!clip_low.empty()) group.clip_low = at(clip_low, g);
    if (!clip_high.empty()) group.clip_high = at(clip_high, g);
    body(g, group);
  }
}

WeightQuantizer token_quantizer(const Tensor& x, int bits, int64_t segment) {
  check_tokens(x, bits, segment);
  return {.kind = Kind::kAsymmetric, .levels = 1 << bits, .group_size = segment};
}

double or_one(const Tensor& x, int64_t i) {
  return x.empty() ? 1.0 : at(x, i);
}

}  // namespace

Tensor ReferenceTensorDevice::fake_quantize_tokens(const Tensor& x, int bits, int64_t segment) {
  return fake_quantize_weight(x, {}, {}, token_quantizer(x, bits, segment));
}

Tensor ReferenceTensorDevice::fake_quantize_tokens_backward(const Tensor& x, int bits,
                                                            int64_t segment, const Tensor& dy) {
  return fake_quantize_weight_backward(x, {}, {}, token_quantizer(x, bits, segment), dy).w;
}

Tensor ReferenceTensorDevice::fake_quantize_weight(const Tensor& w, const Tensor& clip_low,
                                                   const Tensor& clip_high,
                                                   const WeightQuantizer& quantizer) {
  const Tensor y = allocate(w.rows(), w.cols());
  if (memory_.failed()) return y;
  for_groups(w, clip_low, clip_high, quantizer, [&](int64_t g, const Group& group) {
    double* const out = y.as<double>() + g * group.count;
    if (quantizer.kind == Kind::kBinary) {
      binarize(group, out);
    } else {
      fake_quantize(group, quantizer, out);
    }
  });
  return y;
}

WeightGradient ReferenceTensorDevice::fake_quantize_weight_backward(
    const Tensor& w, const Tensor& clip_low, const Tensor& clip_high,
    const WeightQuantizer& quantizer, const Tensor& dy) {
  check_same_shape(w, dy);
  WeightGradient gradient;
  gradient.w = zeros_like(w);
  if (!clip_low.empty()) gradient.clip_low = zeros_like(clip_low);
  if (!clip_high.empty()) gradient.clip_high = zeros_like(clip_high);
  if (memory_.failed()) return gradient;
  for_groups(w, clip_low, clip_high, quantizer, [&](int64_t g, const Group& group) {
    const double* const d = dy.as<double>() + g * group.count;
    double* const dx = gradient.w.as<double>() + g * group.count;
    if (quantizer.kind == Kind::kBinary) return binarize_backward(group, d, dx);
    double dclip_low = 0, dclip_high = 0;
    fake_quantize_backward(group, quantizer, d, dx, &dclip_low, &dclip_high);
    if (clip_low.empty()) return;
    at(gradient.clip_low, g) = dclip_low;
    at(gradient.clip_high, g) = dclip_high;
  });
  return gradient;
}

Tensor ReferenceTensorDevice::affine_weight(const Tensor& w, const Tensor& row_scale,
                                            const Tensor& column_scale, const Tensor& a,
                                            const Tensor& b) {
  check_affine_weight(w, row_scale, column_scale, a, b);
  return make(w.rows(), w.cols(), [&](int64_t n, int64_t k) {
    const double outer = a.empty() ? 0.0 : at(a, n) * at(b, k);
    return at(w, n, k) * or_one(row_scale, n) * or_one(column_scale, k) + outer;
  });
}

AffineGradient ReferenceTensorDevice::affine_weight_backward(const Tensor& w,
                                                             const Tensor& row_scale,
                                                             const Tensor& column_scale,
                                                             const Tensor& a, const Tensor& b,
                                                             const Tensor& dy, bool w_wanted) {
  check_affine_weight(w, row_scale, column_scale, a, b);
  check_same_shape(w, dy);
  const auto like = [&](const Tensor& x) { return x.empty() ? Tensor() : zeros_like(x); };
  AffineGradient gradient;
  if (w_wanted) gradient.w = zeros_like(w);
  gradient.row_scale = like(row_scale);
  gradient.column_scale = like(column_scale);
  gradient.a = like(a);
  gradient.b = like(b);
  if (memory_.failed()) return gradient;
  for (int64_t n = 0; n < w.rows(); ++n) {
    for (int64_t k = 0; k < w.cols(); ++k) {
      const double d = at(dy, n, k), v = at(w, n, k);
      if (w_wanted) at(gradient.w, n, k) = d * or_one(row_scale, n) * or_one(column_scale, k);
      if (!row_scale.empty()) at(gradient.row_scale, n) += d * v * or_one(column_scale, k);
      if (!column_scale.empty()) at(gradient.column_scale, k) += d * v * or_one(row_scale, n);
      if (a.empty()) continue;
      at(gradient.a, n) += d * at(b, k);
      at(gradient.b, k) += d * at(a, n);
    }
  }
  return gradient;
}

}  // namespace abq::compute
