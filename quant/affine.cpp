#include "quant/affine.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "quant/rounding.h"
#include "support/parallel.h"

namespace abq::quant {
namespace {

// Extremes of a row, zero included: low <= 0 <= high.
struct Range {
  float low = 0.0f;
  float high = 0.0f;
};

// NaN is skipped (every comparison with it is false). Minimum and maximum do not depend on the
// order, so that independent lanes give the same bits and let the compiler vectorize.
Range range_of(std::span<const float> values) {
  constexpr size_t kLanes = 16;
  float low[kLanes] = {};
  float high[kLanes] = {};
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
#pragma omp simd
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float v = values[i + lane];
      low[lane] = v < low[lane] ? v : low[lane];
      high[lane] = v > high[lane] ? v : high[lane];
    }
  }
  Range range;
  for (size_t i = whole; i < values.size(); ++i) {
    range.low = values[i] < range.low ? values[i] : range.low;
    range.high = values[i] > range.high ? values[i] : range.high;
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    range.low = std::min(range.low, low[lane]);
    range.high = std::max(range.high, high[lane]);
  }
  return range;
}

float guarded(float scale) {
  return scale > kMinScale ? scale : kMinScale;
}

// Clamps to 0..max_code; NaN becomes 0, so that the conversion to an integer is always defined.
float clamp_code(float q, float max_code) {
  const float bounded = q < max_code ? q : max_code;
  return bounded > 0.0f ? (q == q ? bounded : 0.0f) : 0.0f;
}

float code_of(float value, float scale, float zero, float max_code) {
  return clamp_code(round_half_even(value / scale) + zero, max_code);
}

AffineParams asymmetric_params(Range range, int levels) {
  const float max_code = static_cast<float>(levels - 1);
  const float scale = guarded((range.high - range.low) / max_code);
  const float zero = clamp_code(round_half_even(-range.low / scale), max_code);
  return {scale, static_cast<uint8_t>(zero)};
}

AffineParams symmetric_params(Range range, const WeightSpec& spec) {
  const float bound = std::max(range.high, -range.low);
  const float steps = static_cast<float>((1 << spec.bits) - (spec.balanced ? 0 : 1));
  return {guarded(2.0f * bound / steps), static_cast<uint8_t>(1 << (spec.bits - 1))};
}

// w' = s (2q - 1) with s = mean |w| is 2s (q - 1/2): the scale is 2s, the zero point 1 over 2. The
// sum is float64, rounded once.
AffineParams binary_params(std::span<const float> values) {
  double sum = 0;
  for (const float v : values)
    sum += std::fabs(static_cast<double>(v));
  const double scale = 2.0 * sum / static_cast<double>(values.size());
  return {guarded(static_cast<float>(scale)), 1};
}

void quantize_affine(std::span<const float> values, int levels, AffineParams params,
                     std::span<uint8_t> codes) {
  const float zero = static_cast<float>(params.zero);
  const float max_code = static_cast<float>(levels - 1);
  const float scale = params.scale;
  const float* in = values.data();
  uint8_t* out = codes.data();
  for (size_t i = 0; i < values.size(); ++i)
    out[i] = static_cast<uint8_t>(static_cast<int32_t>(code_of(in[i], scale, zero, max_code)));
}

// Column of the first NaN or Inf, -1 when all are finite.
int64_t first_nonfinite(std::span<const float> values) {
  constexpr uint32_t kExponent = 0x7f800000u;
  bool all_finite = true;
  for (const float v : values)
    all_finite &= (std::bit_cast<uint32_t>(v) & kExponent) != kExponent;
  if (all_finite) return -1;
  const auto bad =
      std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  return bad - values.begin();
}

Status check_clips(std::span<const ClipRatio> clips, int64_t n, int64_t groups) {
  if (clips.empty()) return {};
  if (static_cast<int64_t>(clips.size()) != n * groups) {
    return invalid_argument("clip ratios: expected {} (N={} rows of {} groups), got {}", n * groups,
                            n, groups, clips.size());
  }
  for (size_t i = 0; i < clips.size(); ++i) {
    const bool valid = clips[i].low > 0.0f && clips[i].low <= 1.0f && clips[i].high > 0.0f &&
                       clips[i].high <= 1.0f;
    if (!valid) {
      return invalid_argument("clip ratios: entry {} is ({}, {}); expected values in (0, 1]", i,
                              clips[i].low, clips[i].high);
    }
  }
  return {};
}

// The first row that cannot be quantized, whatever the order in which threads found them.
Status check_values(MatrixView<const float> w) {
  std::vector<int64_t> bad(static_cast<size_t>(w.rows), -1);
  parallel_for(w.rows, [&](int64_t row) {
    bad[static_cast<size_t>(row)] = first_nonfinite(w.row_span(row));
  });
  for (int64_t row = 0; row < w.rows; ++row) {
    const int64_t column = bad[static_cast<size_t>(row)];
    if (column >= 0) {
      return invalid_argument(
          "row {}, column {}: weight is {}; only finite weights can be quantized", row, column,
          w.row(row)[column]);
    }
  }
  return {};
}

// Finite weights whose range does not fit float32 (beyond 1.7e38).
Status check_scales(const QuantizedWeights& q, int64_t groups) {
  for (size_t i = 0; i < q.scales.size(); ++i) {
    if (!std::isfinite(q.scales[i])) {
      return invalid_argument(
          "row {}, group {}: the range of the weights exceeds float32; rescale "
          "the layer",
          static_cast<int64_t>(i) / groups, static_cast<int64_t>(i) % groups);
    }
  }
  return {};
}

void quantize_row(MatrixView<const float> w, int64_t row, std::span<const ClipRatio> clips,
                  QuantizedWeights& q) {
  const int64_t groups = q.spec.groups(q.k);
  const size_t length = static_cast<size_t>(q.k / groups);
  for (int64_t group = 0; group < groups; ++group) {
    const size_t index = static_cast<size_t>(row * groups + group);
    const std::span<const float> values(w.row(row) + group * (q.k / groups), length);
    const AffineParams params =
        weight_params(values, q.spec, clips.empty() ? ClipRatio{} : clips[index]);
    q.scales[index] = params.scale;
    q.zeros[index] = params.zero;
    quantize_values(values, q.spec, params, std::span(q.codes).subspan(index * length, length));
  }
}

}  // namespace

AffineParams weight_params(std::span<const float> values, const WeightSpec& spec, ClipRatio clip) {
  ABQ_CHECK(!values.empty() && spec.quantized());
  if (spec.binary()) return binary_params(values);
  Range range = range_of(values);
  range.low *= clip.low;
  range.high *= clip.high;
  return spec.symmetric ? symmetric_params(range, spec) : asymmetric_params(range, spec.levels());
}

void quantize_values(std::span<const float> values, const WeightSpec& spec, AffineParams params,
                     std::span<uint8_t> codes) {
  ABQ_CHECK(values.size() == codes.size() && spec.quantized());
  if (!spec.binary()) return quantize_affine(values, spec.levels(), params, codes);
  for (size_t i = 0; i < values.size(); ++i)
    codes[i] = values[i] >= 0.0f ? 1 : 0;
}

void dequantize_values(std::span<const uint8_t> codes, const WeightSpec& spec, AffineParams params,
                       std::span<float> values) {
  ABQ_CHECK(values.size() == codes.size());
  const float zero = static_cast<float>(params.zero) / static_cast<float>(spec.zero_denominator());
  for (size_t i = 0; i < codes.size(); ++i)
    values[i] = params.scale * (static_cast<float>(codes[i]) - zero);
}

Result<QuantizedWeights> quantize_weights(MatrixView<const float> w, const WeightSpec& spec,
                                          std::span<const ClipRatio> clips) {
  ABQ_RETURN_IF_ERROR(check_weight_spec(spec, w.cols));
  if (!spec.quantized()) {
    return invalid_argument("16-bit weights are stored as floats; expected 1 to 8 bits");
  }
  const int64_t groups = spec.groups(w.cols);
  ABQ_RETURN_IF_ERROR(check_clips(clips, w.rows, groups));
  ABQ_RETURN_IF_ERROR(check_values(w));

  QuantizedWeights q;
  q.spec = spec;
  q.n = w.rows;
  q.k = w.cols;
  q.codes.resize(static_cast<size_t>(w.rows * w.cols));
  q.scales.resize(static_cast<size_t>(w.rows * groups));
  q.zeros.resize(static_cast<size_t>(w.rows * groups));
  parallel_for(w.rows, [&](int64_t row) { quantize_row(w, row, clips, q); });
  ABQ_RETURN_IF_ERROR(check_scales(q, groups));
  return q;
}

void dequantize_weights(const QuantizedWeights& weights, MatrixView<float> w) {
  ABQ_CHECK(w.rows == weights.n && w.cols == weights.k);
  const int64_t groups = weights.spec.groups(weights.k);
  const size_t length = static_cast<size_t>(weights.k / groups);
  parallel_for(weights.n, [&](int64_t row) {
    for (int64_t group = 0; group < groups; ++group) {
      const size_t index = static_cast<size_t>(row * groups + group);
      dequantize_values(std::span(weights.codes).subspan(index * length, length), weights.spec,
                        {weights.scales[index], weights.zeros[index]},
                        w.row_span(row).subspan(static_cast<size_t>(group) * length, length));
    }
  });
}

AffineParams token_params(std::span<const float> token, int bits) {
  ABQ_CHECK(bits >= 1 && bits <= 8);
  return asymmetric_params(range_of(token), 1 << bits);
}

void quantize_token(std::span<const float> token, int bits, AffineParams params,
                    std::span<uint8_t> codes) {
  ABQ_CHECK(token.size() == codes.size());
  quantize_affine(token, 1 << bits, params, codes);
}

QuantizedTokens quantize_tokens(MatrixView<const float> x, int bits) {
  QuantizedTokens q;
  q.bits = bits;
  q.m = x.rows;
  q.k = x.cols;
  q.codes.resize(static_cast<size_t>(x.rows * x.cols));
  q.scales.resize(static_cast<size_t>(x.rows));
  q.zeros.resize(static_cast<size_t>(x.rows));
  parallel_for(x.rows, [&](int64_t row) {
    const size_t index = static_cast<size_t>(row);
    const size_t length = static_cast<size_t>(x.cols);
    const AffineParams params = token_params(x.row_span(row), bits);
    q.scales[index] = params.scale;
    q.zeros[index] = params.zero;
    quantize_token(x.row_span(row), bits, params,
                   std::span(q.codes).subspan(index * length, length));
  });
  return q;
}

void fake_quantize_tokens(MatrixView<float> x, int bits) {
  parallel_for(x.rows, [&](int64_t row) {
    const AffineParams params = token_params(x.row_span(row), bits);
    const float scale = params.scale;
    const float zero = static_cast<float>(params.zero);
    const float max_code = static_cast<float>((1 << bits) - 1);
    for (float& v : x.row_span(row))
      v = scale * (code_of(v, scale, zero, max_code) - zero);
  });
}

}  // namespace abq::quant
