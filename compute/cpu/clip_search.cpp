#include "compute/cpu/clip_search.h"

#include <array>
#include <bit>
#include <cmath>

#include "compute/cpu/weight_grid.h"

namespace abq::compute {
namespace {

constexpr int kFactors = 27;
constexpr size_t kChunk = 512;
constexpr size_t kLanes = 16;

float factor(int i) {
  return static_cast<float>(40 - i) / 40.0f;
}

// |e|^2.4 as quant/clip_search.cpp has it: (|e| r)^3 with r = |e|^-0.2 by Newton's iteration.
float power_2_4(float e) {
  constexpr float kStart = 1278017536.0f;
  const float a = std::fabs(e);
  const float bits = static_cast<float>(std::bit_cast<int32_t>(a));
  float r = std::bit_cast<float>(static_cast<int32_t>(kStart - 0.2f * bits));
  for (int i = 0; i < 3; ++i) {
    const float square = r * r;
    r = r * (1.2f - 0.2f * (a * r * square * square));
  }
  const float root = a * r;
  return root * root * root;
}

float clamped(float q, float max_code) {
  const float bounded = q < max_code ? q : max_code;
  return bounded > 0.0f ? bounded : 0.0f;
}

// What rounding adds to a value, over `bound`.
float error(float value, const QuantizerGrid& grid, float inverse) {
  const float code = clamped(round_half_even(value / grid.scale) + grid.zero, grid.max_code);
  return (grid.scale * (code - grid.zero) - value) * inverse;
}

double loss(std::span<const float> values, const QuantizerGrid& grid, float inverse) {
  float lanes[kLanes] = {};
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] += power_2_4(error(values[i + lane], grid, inverse));
  double sum = 0;
  for (const float lane : lanes)
    sum += static_cast<double>(lane);
  for (size_t i = whole; i < values.size(); ++i)
    sum += static_cast<double>(power_2_4(error(values[i], grid, inverse)));
  return sum;
}

}  // namespace

Extremes extremes_of(std::span<const float> values) {
  Extremes range;
  for (const float v : values) {
    range.low = v < range.low ? v : range.low;
    range.high = v > range.high ? v : range.high;
  }
  return range;
}

float best_clip_factor(std::span<const float> values, const WeightQuantizer& quantizer) {
  if (quantizer.kind == WeightQuantizer::Kind::kBinary) return 1.0f;
  // Ranges depend on the extremes only: found once, clipped 27 times.
  const Extremes range = extremes_of(values);
  const float inverse = 1.0f / std::max({kMinScale, -range.low, range.high});
  float best = 1.0f;
  double best_loss = HUGE_VAL;
  for (int i = 0; i < kFactors; ++i) {
    const float f = factor(i);
    const QuantizerGrid grid = grid_of({range.low * f, range.high * f}, quantizer);
    double total = 0;
    for (size_t begin = 0; begin < values.size() && total < best_loss; begin += kChunk)
      total += loss(values.subspan(begin, std::min(kChunk, values.size() - begin)), grid, inverse);
    if (total < best_loss) {
      best_loss = total;
      best = f;
    }
  }
  return best;
}

}  // namespace abq::compute
