// Grids of weights as quant/affine.cpp makes them, operation for operation; whoever includes this
// may not fuse a multiplication with an addition.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "compute/compensated_rounding.h"
#include "compute/cpu/tensor_kernels.h"

namespace abq::compute {

inline constexpr float kMinScale = 1e-8f;  // quant::kMinScale

inline float round_half_even(float x) {
  constexpr float kShift = 0x1.8p23f;
  return (x + kShift) - kShift;
}

inline bool is_guarded(float scale) {
  return !(scale > kMinScale);
}

inline float guarded(float scale) {
  return is_guarded(scale) ? kMinScale : scale;
}

inline QuantizerGrid asymmetric_grid(Extremes range, int levels) {
  const float max_code = static_cast<float>(levels - 1);
  const float scale = guarded((range.high - range.low) / max_code);
  const float zero = std::clamp(round_half_even(-range.low / scale), 0.0f, max_code);
  return {scale, zero, max_code};
}

inline QuantizerGrid symmetric_grid(Extremes range, const WeightQuantizer& quantizer) {
  const float bound = std::max(range.high, -range.low);
  return {guarded(2.0f * bound / static_cast<float>(quantizer.steps)),
          static_cast<float>(quantizer.zero), static_cast<float>(quantizer.levels - 1)};
}

// The grid of a range; not of binary weights.
inline QuantizerGrid grid_of(Extremes range, const WeightQuantizer& quantizer) {
  // A clip factor that is NaN. The guard of the scale would hide it.
  if (std::isnan(range.low) || std::isnan(range.high))
    return {std::numeric_limits<float>::quiet_NaN(), 0.0f,
            static_cast<float>(quantizer.levels - 1)};
  return quantizer.kind == WeightQuantizer::Kind::kSymmetric
             ? symmetric_grid(range, quantizer)
             : asymmetric_grid(range, quantizer.levels);
}

// Binary weights as codes 0 and 1 about 1/2; the mean is summed in float64.
inline QuantizerGrid binary_grid(std::span<const float> values) {
  double sum = 0;
  for (const float v : values)
    sum += std::fabs(static_cast<double>(v));
  return {guarded(static_cast<float>(2.0 * sum / static_cast<double>(values.size()))), 0.5f, 1.0f};
}

}  // namespace abq::compute
