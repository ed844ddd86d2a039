#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "quant/affine.h"
#include "support/parallel.h"

namespace abq::quant {
namespace {

constexpr int kFactors = 27;  // 1, 0.975, ..., 0.35
constexpr size_t kChunk = 512;
constexpr size_t kLanes = 16;

float factor(int i) {
  return static_cast<float>(40 - i) / 40.0f;
}

// |e|^2.4 = (|e| r)^3 with the inverse fifth root r = |e|^-0.2, for |e| of order 1, by Newton's
// iteration r <- r (1.2 - 0.2 |e| r^5), which needs no division. The start is a linear function of
// the bit pattern, which is nearly a logarithm; three iterations leave float32 rounding. std::pow
// would be a library call for each element and factor, hours over a 7B model.
float power_2_4(float e) {
  constexpr float kStart = 1278017536.0f;  // about 1.2 times the bit pattern of 1.0f
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

// sum over the group of (|w' - w| / bound)^2.4; the common factor bound^2.4 changes no comparison
// and its absence keeps small weights away from underflow.
double loss(std::span<const float> values, std::span<const float> approximation, float bound) {
  const float inverse = 1.0f / bound;
  float lanes[kLanes] = {};
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] += power_2_4((approximation[i + lane] - values[i + lane]) * inverse);
  double sum = 0;
  for (const float lane : lanes)
    sum += static_cast<double>(lane);
  for (size_t i = whole; i < values.size(); ++i)
    sum += static_cast<double>(power_2_4((approximation[i] - values[i]) * inverse));
  return sum;
}

ClipRatio best_clip(std::span<const float> values, const WeightSpec& spec) {
  // Range parameters depend on the extremes only: found once, clipped 27 times.
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const std::array<float, 2> extremes = {*low, *high};
  const float bound = std::max({kMinScale, -*low, *high});
  std::array<uint8_t, kChunk> codes;
  std::array<float, kChunk> approximation;
  ClipRatio best;
  double best_loss = HUGE_VAL;
  for (int i = 0; i < kFactors; ++i) {
    const ClipRatio clip{factor(i), factor(i)};
    const AffineParams params = weight_params(extremes, spec, clip);
    double total = 0;
    for (size_t begin = 0; begin < values.size() && total < best_loss; begin += kChunk) {
      const size_t count = std::min(kChunk, values.size() - begin);
      const std::span<const float> part = values.subspan(begin, count);
      quantize_values(part, spec, params, std::span(codes).first(count));
      dequantize_values(std::span(codes).first(count), spec, params,
                        std::span(approximation).first(count));
      total += loss(part, std::span(approximation).first(count), bound);
    }
    if (total < best_loss) {
      best_loss = total;
      best = clip;
    }
  }
  return best;
}

}  // namespace

std::vector<ClipRatio> search_clips(MatrixView<const float> w, const WeightSpec& spec) {
  ABQ_CHECK(check_weight_spec(spec, w.cols).ok() && spec.quantized());
  const int64_t groups = spec.groups(w.cols);
  const int64_t length = w.cols / groups;
  std::vector<ClipRatio> clips(static_cast<size_t>(w.rows * groups));
  if (spec.binary()) return clips;
  parallel_for(w.rows, [&](int64_t row) {
    for (int64_t group = 0; group < groups; ++group) {
      clips[static_cast<size_t>(row * groups + group)] =
          best_clip({w.row(row) + group * length, static_cast<size_t>(length)}, spec);
    }
  });
  return clips;
}

}  // namespace abq::quant
