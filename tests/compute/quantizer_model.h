// One row or group under a fake quantizer, in float64 and apart from the devices' code: its grid,
// data that no float32 rounding can push over to another code, and the function whose ordinary
// derivative the straight-through gradient is.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "compute/tensor_device.h"
#include "support/random.h"

namespace abq::compute {

struct ClippedRange {
  double low = 0;
  double high = 0;
};

inline ClippedRange clipped_range(std::span<const double> x, double clip_low, double clip_high) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  return {std::min(*low * clip_low, 0.0), std::max(*high * clip_high, 0.0)};
}

// Without the guard.
inline double scale_of(std::span<const double> x, double clip_low, double clip_high,
                       const WeightQuantizer& quantizer) {
  const ClippedRange range = clipped_range(x, clip_low, clip_high);
  switch (quantizer.kind) {
    case WeightQuantizer::Kind::kAsymmetric:
      return (range.high - range.low) / (quantizer.levels - 1);
    case WeightQuantizer::Kind::kSymmetric:
      return 2 * std::max(range.high, -range.low) / quantizer.steps;
    case WeightQuantizer::Kind::kBinary:
      break;
  }
  double sum = 0;
  for (const double v : x)
    sum += std::abs(v);
  return sum / static_cast<double>(x.size());  // half the scale
}

// How far u is from where rounding goes over to the next integer.
inline double boundary_distance(double u) {
  return std::abs(u - std::floor(u) - 0.5);
}

// Moves values of one group until each is at least 0.02 steps away from every rounding boundary,
// the zero point as well (binary: from the scale). Returns false when that did not succeed.
inline bool move_off_boundaries(std::span<float> x, double clip_low, double clip_high,
                                const WeightQuantizer& quantizer) {
  constexpr double kDistance = 0.02;
  Random random(1);  // equal moves could run in circles
  for (int round = 0; round < 200; ++round) {
    const std::vector<double> values(x.begin(), x.end());
    const double scale = scale_of(values, clip_low, clip_high, quantizer);
    if (scale < 1e-8) return true;
    bool moved = false;
    for (float& v : x) {
      const double u = static_cast<double>(v) / scale;
      const bool binary = quantizer.kind == WeightQuantizer::Kind::kBinary;
      const double distance =
          binary ? std::min(std::abs(std::abs(u) - 1), std::abs(u)) : boundary_distance(u);
      if (distance >= kDistance) continue;
      const double distance_moved = (0.05 + 0.1 * random.uniform()) * scale;
      v = static_cast<float>(v + (v < 0 ? distance_moved : -distance_moved));
      moved = true;
    }
    const double low = clipped_range(values, clip_low, clip_high).low;
    if (!moved && quantizer.kind == WeightQuantizer::Kind::kAsymmetric &&
        boundary_distance(-low / scale) < kDistance) {
      *std::min_element(x.begin(), x.end()) -=
          static_cast<float>((0.05 + 0.1 * random.uniform()) * scale);
      moved = true;
    }
    if (!moved) return true;
  }
  return false;
}

// The quantizer with every rounding decision of one point frozen: what rounding adds to x / scale,
// the zero point, which codes are clamped, whether the scale is guarded. Around that point its
// ordinary derivative is the straight-through gradient.
class FrozenQuantizer {
 public:
  FrozenQuantizer(std::span<const double> x, double clip_low, double clip_high,
                  const WeightQuantizer& quantizer)
      : quantizer_(quantizer), point_(x.begin(), x.end()) {
    scale_ = scale_of(x, clip_low, clip_high, quantizer);
    guarded_ = scale_ <= 1e-8;
    if (guarded_) scale_ = 1e-8;
    const double low = clipped_range(x, clip_low, clip_high).low;
    zero_ = quantizer.kind == WeightQuantizer::Kind::kSymmetric ? quantizer.zero
                                                                : std::nearbyint(-low / scale_);
  }

  std::vector<double> operator()(std::span<const double> x, double clip_low,
                                 double clip_high) const {
    const double scale = guarded_ ? scale_ : scale_of(x, clip_low, clip_high, quantizer_);
    std::vector<double> y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const double u = point_[i] / scale_;
      if (quantizer_.kind == WeightQuantizer::Kind::kBinary) {
        const bool passes = std::abs(point_[i]) <= scale_;
        y[i] = (u >= 0 ? scale : -scale) + (passes ? x[i] - point_[i] : 0.0);
        continue;
      }
      const double code = std::nearbyint(u) + zero_;
      const double clamped = std::clamp(code, 0.0, quantizer_.levels - 1.0);
      y[i] = code == clamped ? x[i] + scale * (std::nearbyint(u) - u) : scale * (clamped - zero_);
    }
    return y;
  }

 private:
  WeightQuantizer quantizer_;
  std::vector<double> point_;
  double scale_ = 0;
  bool guarded_ = false;
  double zero_ = 0;
};

}  // namespace abq::compute
