// Kernels of the fake quantizers and of the weight transform before them.
#pragma once

#include "compute/cpu/isa/vector_loop.h"
#include "compute/cpu/tensor_kernels.h"

namespace abq::compute::ABQ_ISA_NAMESPACE {
namespace {

inline Float absolute(Float v) {
  return bits_of<Float>(bits_of<Int>(v) & 0x7fffffff);
}

Extremes extremes(const float* x, int64_t count) {
  Float low = {}, high = {};
  for_vectors(count, [&](int64_t i, auto access) {
    const Float v = access.load(x + i);
    low = v < low ? v : low;
    high = v > high ? v : high;
  });
  return {-max_lanes(-low), max_lanes(high)};
}

void find_extremes(const float* x, int64_t count, Extremes extremes, int64_t* low, int64_t* high) {
  constexpr int32_t kNowhere = 0x7fffffff;
  Int index = {};
  for (int i = 0; i < kLanes; ++i)
    index[i] = i;
  Int first_low = Int{} + kNowhere, first_high = first_low;
  for_vectors(count, [&](int64_t i, auto access) {
    const Float v = access.load(x + i);
    const Int here = index + static_cast<int32_t>(i);
    first_low = v == extremes.low && first_low == kNowhere ? here : first_low;
    first_high = v == extremes.high && first_high == kNowhere ? here : first_high;
  });
  *low = *high = kNowhere;
  for (int i = 0; i < kLanes; ++i) {
    *low = first_low[i] < *low ? first_low[i] : *low;
    *high = first_high[i] < *high ? first_high[i] : *high;
  }
}

// Half to even by the adder (quant/rounding.h).
inline Float rounded(Float v) {
  constexpr float kRounder = 0x1.8p23f;
  return (v + kRounder) - kRounder;
}

// v / scale, rounded, on the grid's zero point.
inline Float unclamped_code(Float v, const QuantizerGrid& grid) {
  return rounded(v / grid.scale) + grid.zero;
}

// NaN becomes code 0, as in quant/affine.h.
inline Float clamped_code(Float code, float max_code) {
  const Float bounded = code < max_code ? code : broadcast(max_code);
  return bounded > 0.0f && code == code ? bounded : Float{};
}

void fake_quantize(const QuantizerGrid& grid, const float* x, int64_t count, float* y) {
  const QuantizerGrid g = grid;
  for_vectors(count, [&](int64_t i, auto access) {
    const Float code = clamped_code(unclamped_code(access.load(x + i), g), g.max_code);
    access.store(y + i, g.scale * (code - g.zero));
  });
}

// y = scale (q - zero), q = round(x / scale) + zero: dy/dscale = (q - zero) - x / scale; a clamped
// q is a constant.
float fake_quantize_backward(const QuantizerGrid& grid, const float* x, const float* dy,
                             int64_t count, float* dx) {
  const QuantizerGrid g = grid;
  Float sum = {};
  for_vectors(count, [&](int64_t i, auto access) {
    const Float v = access.load(x + i), d = access.load(dy + i);
    const Float code = unclamped_code(v, g);
    const Float clamped = clamped_code(code, g.max_code);
    const Int inside = code == clamped;
    access.store(dx + i, inside ? d : Float{});
    sum += d * ((clamped - g.zero) - (inside ? v / g.scale : Float{}));
  });
  return sum_lanes(sum);
}

float absolute_sum(const float* x, int64_t count) {
  Float sum = {};
  for_vectors(count, [&](int64_t i, auto access) { sum += absolute(access.load(x + i)); });
  return sum_lanes(sum);
}

void binarize(float half_scale, const float* x, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i)
    y[i] = x[i] >= 0.0f ? half_scale : -half_scale;
}

float binarize_backward(float half_scale, const float* x, const float* dy, int64_t count,
                        float* dx) {
  Float sum = {};
  for_vectors(count, [&](int64_t i, auto access) {
    const Float v = access.load(x + i), d = access.load(dy + i);
    access.store(dx + i, absolute(v) <= half_scale ? d : Float{});
    sum += v >= 0.0f ? d : -d;
  });
  return sum_lanes(sum);
}

void add_signs(float factor, const float* of, int64_t count, float* x) {
  for (int64_t i = 0; i < count; ++i)
    x[i] += of[i] > 0.0f ? factor : (of[i] < 0.0f ? -factor : 0.0f);
}

// What offsets stand for on a scale of 1, and which of them a gradient passes to. NaN stays NaN and
// passes nothing.
struct CodeNumbers {
  float low;
  float high;

  Float of(Float offset) const {
    const Float number = rounded(offset);
    const Float raised = number < low ? broadcast(low) : number;
    return raised > high ? broadcast(high) : raised;
  }
  Int passes(Float offset) const {
    const Float number = rounded(offset);
    return (number >= low) & (number <= high);
  }
};

struct SignNumbers {
  Float of(Float offset) const {
    const Float sign = offset >= 0.0f ? broadcast(1.0f) : broadcast(-1.0f);
    return offset == offset ? sign : offset;
  }
  Int passes(Float offset) const { return absolute(offset) <= 1.0f; }
};

template <class Numbers>
inline void round_to(const Numbers& numbers, float scale, const float* offsets, int64_t count,
                     float* y) {
  for_vectors(count, [&](int64_t i, auto access) {
    access.store(y + i, scale * numbers.of(access.load(offsets + i)));
  });
}

template <class Numbers>
inline float round_to_backward(const Numbers& numbers, float scale, const float* offsets,
                               const float* dy, int64_t count, float* doffsets) {
  Float sum = {};
  for_vectors(count, [&](int64_t i, auto access) {
    const Float offset = access.load(offsets + i), d = access.load(dy + i);
    sum += d * numbers.of(offset);
    if (doffsets == nullptr) return;
    access.store(doffsets + i, numbers.passes(offset) ? d * scale : Float{});
  });
  return sum_lanes(sum);
}

void round_weight(const RoundedGroup& group, const float* offsets, int64_t count, float* y) {
  if (group.binary) return round_to(SignNumbers{}, group.scale, offsets, count, y);
  round_to(CodeNumbers{group.low, group.high}, group.scale, offsets, count, y);
}

float round_weight_backward(const RoundedGroup& group, const float* offsets, const float* dy,
                            int64_t count, float* doffsets) {
  if (group.binary)
    return round_to_backward(SignNumbers{}, group.scale, offsets, dy, count, doffsets);
  return round_to_backward(CodeNumbers{group.low, group.high}, group.scale, offsets, dy, count,
                           doffsets);
}

void affine_row(const AffineRow& row, int64_t count, float* y) {
  const AffineRow r = row;
  for_vectors(count, [&](int64_t i, auto access) {
    Float v = access.load(r.w + i) * r.row_scale;
    if (r.column_scale != nullptr) v *= access.load(r.column_scale + i);
    if (r.b != nullptr) v += r.a * access.load(r.b + i);
    access.store(y + i, v);
  });
}

void affine_row_backward(const AffineRow& row, const float* dy, int64_t count,
                         AffineRowGradient& gradient) {
  const AffineRow r = row;
  const AffineRowGradient out = gradient;
  Float row_scale = {}, a = {};
  for_vectors(count, [&](int64_t i, auto access) {
    const Float d = access.load(dy + i), w = access.load(r.w + i);
    Float scaled = d;
    if (r.column_scale != nullptr) scaled *= access.load(r.column_scale + i);
    row_scale += scaled * w;
    if (out.w != nullptr) access.store(out.w + i, scaled * r.row_scale);
    if (out.column_scale != nullptr) {
      float* const sum = out.column_scale + i;
      access.store(sum, access.load(sum) + d * w * r.row_scale);
    }
    if (r.b != nullptr) {
      a += d * access.load(r.b + i);
      access.store(out.b + i, access.load(out.b + i) + d * r.a);
    }
  });
  gradient.row_scale = sum_lanes(row_scale);
  gradient.a = sum_lanes(a);
}

}  // namespace
}  // namespace abq::compute::ABQ_ISA_NAMESPACE
