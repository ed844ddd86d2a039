// The quantizers of quant/affine.cpp for one element or one range, bit for bit, and their
// straight-through derivatives.
#pragma once

#include <cmath>

#include "compute/cuda/portable_math.cuh"

namespace abq::compute::cuda {

constexpr float kMinScale = 1e-8f;  // quant::kMinScale

// quant::round_half_even: two additions that no compiler may fold.
ABQ_HOST_DEVICE float round_half_even(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
  return subtract_rn(add_rn(x, kShift), kShift);
}

// Clamps to 0 .. max_code; NaN becomes 0.
ABQ_HOST_DEVICE float clamp_code(float q, float max_code) {
  const float bounded = q < max_code ? q : max_code;
  return bounded > 0.0f ? (q == q ? bounded : 0.0f) : 0.0f;
}

// What the codes of a row or group mean.
struct CodeGrid {
  float scale;
  float zero;
  float max_code;
  bool guarded;  // the range is too small for a scale: nothing depends on it
};

ABQ_HOST_DEVICE CodeGrid asymmetric_grid(float low, float high, float max_code) {
  const float scale = divide_rn(subtract_rn(high, low), max_code);
  const bool guarded = !(scale > kMinScale);
  const float used = guarded ? kMinScale : scale;
  return {used, clamp_code(round_half_even(divide_rn(-low, used)), max_code), max_code, guarded};
}

ABQ_HOST_DEVICE CodeGrid symmetric_grid(float low, float high, float steps, float zero,
                                        float max_code) {
  const float bound = high < -low ? -low : high;
  const float scale = divide_rn(multiply_rn(2.0f, bound), steps);
  const bool guarded = !(scale > kMinScale);
  return {guarded ? kMinScale : scale, zero, max_code, guarded};
}

// The grid of a range with a bound that is NaN (a clip factor was): everything on it is NaN, which
// the guard of the scale would hide.
ABQ_HOST_DEVICE CodeGrid broken_grid(float max_code) {
  return {NAN, 0.0f, max_code, true};
}

// scale * (code - zero)
ABQ_HOST_DEVICE float fake_quantized(float x, const CodeGrid& grid) {
  const float rounded = round_half_even(divide_rn(x, grid.scale));
  const float code = clamp_code(add_rn(rounded, grid.zero), grid.max_code);
  return multiply_rn(grid.scale, subtract_rn(code, grid.zero));
}

struct ElementGradient {
  float x;
  float scale;
};

// y = s (q - z), q = clamp(round(x / s) + z): inside the codes dy/dx = 1 and
// dy/ds = (q - z) - x / s, at the clamp dy/dx = 0 and dy/ds = q - z. NaN has code 0.
ABQ_HOST_DEVICE ElementGradient fake_quantized_backward(float x, float dy, const CodeGrid& grid) {
  const float ratio = divide_rn(x, grid.scale);
  const float rounded = round_half_even(ratio);
  const float code = add_rn(rounded, grid.zero);
  if (!(code >= 0.0f)) return {0.0f, dy * -grid.zero};
  if (code > grid.max_code) return {0.0f, dy * (grid.max_code - grid.zero)};
  return {dy, dy * (rounded - ratio)};
}

// Rounded weights: what an offset stands for on a scale of 1, and whether a gradient passes to it.
// NaN stays NaN and passes nothing.
struct CodeNumbers {  // whole numbers low .. high
  float low;
  float high;

  ABQ_HOST_DEVICE float of(float offset) const {
    const float number = round_half_even(offset);
    const float raised = number < low ? low : number;
    return raised > high ? high : raised;
  }
  ABQ_HOST_DEVICE bool passes(float offset) const {
    const float number = round_half_even(offset);
    return number >= low && number <= high;
  }
};

ABQ_HOST_DEVICE CodeNumbers code_numbers(float zero, float max_code) {
  return {subtract_rn(0.0f, zero), subtract_rn(max_code, zero)};  // -zero could be a negative 0
}

struct SignNumbers {  // -1 and 1
  ABQ_HOST_DEVICE float of(float offset) const {
    if (offset != offset) return offset;
    return offset >= 0.0f ? 1.0f : -1.0f;
  }
  ABQ_HOST_DEVICE bool passes(float offset) const { return fabsf(offset) <= 1.0f; }
};

template <class Numbers>
ABQ_HOST_DEVICE float rounded_weight_of(float offset, float scale, const Numbers& numbers) {
  return multiply_rn(scale, numbers.of(offset));
}

// `x` is the gradient of the offset.
template <class Numbers>
ABQ_HOST_DEVICE ElementGradient rounded_weight_gradient(float offset, float dy, float scale,
                                                        const Numbers& numbers) {
  return {numbers.passes(offset) ? dy * scale : 0.0f, dy * numbers.of(offset)};
}

// Gradients of the two bounds of a range.
struct RangeGradient {
  float low;
  float high;
};

// scale = (high - low) / max_code
ABQ_HOST_DEVICE RangeGradient asymmetric_range_gradient(float dscale, const CodeGrid& grid) {
  if (grid.guarded) return {0.0f, 0.0f};
  const float dhigh = dscale / grid.max_code;
  return {-dhigh, dhigh};
}

// scale = 2 max(high, -low) / steps
ABQ_HOST_DEVICE RangeGradient symmetric_range_gradient(float dscale, float low, float high,
                                                       float steps, const CodeGrid& grid) {
  if (grid.guarded) return {0.0f, 0.0f};
  const float dbound = 2.0f * dscale / steps;
  return high < -low ? RangeGradient{-dbound, 0.0f} : RangeGradient{0.0f, dbound};
}

}  // namespace abq::compute::cuda
