// Portable kernels: correct everywhere, and the model that the others are compared with.
#include <cstring>

#include "quant/rounding.h"
#include "runtime/cpu/kernels_shared.h"

namespace abq::runtime {
namespace {

// codes - float_centre of one unit of one row.
template <int P>
void expand_unit(const uint8_t* unit, int8_t* out) {
  if constexpr (P == 8) {
    std::memcpy(out, unit, kUnitCodes);
    return;
  }
  std::memset(out, 0, kUnitCodes);
  int base = 0;
  if constexpr ((P & 4) != 0) {
    for (int j = 0; j < kUnitCodes; ++j)
      out[j] = static_cast<int8_t>((unit[j % 64] >> (j / 64 * 4)) & 15);
    unit += 64;
    base = 4;
  }
  if constexpr ((P & 2) != 0) {
    for (int j = 0; j < kUnitCodes; ++j)
      out[j] = static_cast<int8_t>(out[j] | ((unit[j % 32] >> (j / 32 * 2)) & 3) << base);
    unit += 32;
    base += 2;
  }
  if constexpr ((P & 1) != 0) {
    for (int j = 0; j < kUnitCodes; ++j)
      out[j] = static_cast<int8_t>(out[j] | ((unit[j % 16] >> (j / 16)) & 1) << base);
  }
}

template <int P>
void expand_block(const uint8_t* block, int64_t units, int8_t* rows, int64_t stride) {
  for (int64_t u = 0; u < units; ++u)
    for (int r = 0; r < kBlockRows; ++r)
      expand_unit<P>(block + (u * kBlockRows + r) * 16 * P, rows + r * stride + u * kUnitCodes);
}

template <int P>
void dot(const DotArgs& a, int32_t* sums) {
  int8_t w[kUnitCodes];
  std::memset(sums, 0, sizeof(int32_t) * static_cast<size_t>(a.count) * kBlockRows);
  for (int64_t i = 0; i < a.units * kBlockRows; ++i) {
    expand_unit<P>(a.weights + i * 16 * P, w);
    for (int t = 0; t < a.count; ++t) {
      const uint8_t* x =
          static_cast<const uint8_t*>(a.tokens) + t * a.token_stride + i / kBlockRows * kUnitCodes;
      int32_t sum = 0;
      for (int j = 0; j < kUnitCodes; ++j)
        sum += w[j] * x[j];
      sums[t * kBlockRows + i % kBlockRows] += sum;
    }
  }
}

template <int P, int Groups>
void grouped_dot(const DotArgs& a, float* sums) {
  constexpr int kGroup = kUnitCodes / Groups;
  int8_t w[kUnitCodes];
  std::memset(sums, 0, sizeof(float) * static_cast<size_t>(a.count) * kBlockRows);
  for (int64_t i = 0; i < a.units * kBlockRows; ++i) {
    expand_unit<P>(a.weights + i * 16 * P, w);
    for (int t = 0; t < a.count; ++t) {
      const uint8_t* x =
          static_cast<const uint8_t*>(a.tokens) + t * a.token_stride + i / kBlockRows * kUnitCodes;
      for (int g = 0; g < Groups; ++g) {
        int32_t sum = 0;
        for (int j = g * kGroup; j < (g + 1) * kGroup; ++j)
          sum += w[j] * x[j];
        sums[t * kBlockRows + i % kBlockRows] += a.scales[i * Groups + g] * static_cast<float>(sum);
      }
    }
  }
}

// sum of w x in steps over `count` codes of a unit.
inline float multiply_fixed(const int8_t* w, const int8_t* x, int count) {
  int64_t total = 0;
  for (int d = 2; d >= 0; --d) {
    int32_t sum = 0;
    for (int j = 0; j < count; ++j)
      sum += w[j] * x[d * kUnitCodes + j];
    total = total * 256 + sum;
  }
  return static_cast<float>(total);
}

// Groups = 0: per channel, no scale.
template <int P, int Groups>
void float_dot(const DotArgs& a, float* sums) {
  constexpr int kSums = Groups == 0 ? 1 : Groups;
  constexpr int kGroup = kUnitCodes / kSums;
  int8_t w[kUnitCodes];
  std::memset(sums, 0, sizeof(float) * static_cast<size_t>(a.count) * kBlockRows);
  for (int64_t i = 0; i < a.units * kBlockRows; ++i) {
    expand_unit<P>(a.weights + i * 16 * P, w);
    const int64_t unit = i / kBlockRows;
    for (int t = 0; t < a.count; ++t) {
      const int8_t* x =
          static_cast<const int8_t*>(a.tokens) + t * a.token_stride + unit * kDigitBytes;
      const float step = a.token_steps[t * a.token_steps_stride + unit];
      for (int g = 0; g < kSums; ++g) {
        const float factor = Groups == 0 ? step : step * a.scales[i * Groups + g];
        sums[t * kBlockRows + i % kBlockRows] +=
            factor * multiply_fixed(w + g * kGroup, x + g * kGroup, kGroup);
      }
    }
  }
}

void min_max(const float* values, int64_t count, float* low, float* high) {
  float lo = 0, hi = 0;
  for (int64_t i = 0; i < count; ++i) {
    lo = values[i] < lo ? values[i] : lo;
    hi = values[i] > hi ? values[i] : hi;
  }
  *low = lo;
  *high = hi;
}

void quantize(const float* values, int64_t count, float scale, int zero, int max_code,
              uint8_t* codes) {
  const float top = static_cast<float>(max_code);
  for (int64_t i = 0; i < count; ++i) {
    const float code = quant::round_half_even(values[i] / scale) + static_cast<float>(zero);
    const float low = code > 0 ? code : 0;  // NaN too
    codes[i] = static_cast<uint8_t>(low < top ? low : top);
  }
}

int64_t bit_dot(const uint8_t* w, int w_planes, const uint8_t* x, int x_planes, int64_t bytes) {
  int64_t total = 0;
  for (int i = 0; i < w_planes; ++i) {
    for (int j = 0; j < x_planes; ++j) {
      int64_t count = 0;
      for (int64_t b = 0; b < bytes; b += 8) {
        uint64_t a, c;
        std::memcpy(&a, w + i * bytes + b, 8);
        std::memcpy(&c, x + j * bytes + b, 8);
        count += __builtin_popcountll(a & c);
      }
      total += count << (i + j);
    }
  }
  return total;
}

template <int P>
void fill_width(Kernels& k) {
  k.dot[P] = dot<P>;
  k.grouped_dot[P][0] = grouped_dot<P, 1>;
  k.grouped_dot[P][1] = grouped_dot<P, 2>;
  k.grouped_dot[P][2] = grouped_dot<P, 4>;
  k.float_dot[P][0] = float_dot<P, 0>;
  k.float_dot[P][1] = float_dot<P, 1>;
  k.float_dot[P][2] = float_dot<P, 2>;
  k.float_dot[P][3] = float_dot<P, 4>;
  k.expand[P] = expand_block<P>;
  k.dot_centre[P] = k.float_centre[P] = k.expand_centre[P] = P == 8 ? 128 : 0;
  if constexpr (P < 8) fill_width<P + 1>(k);
}

Kernels make() {
  Kernels k = {};
  k.name = "baseline";
  fill_width<1>(k);
  k.finish = finish_panel;
  k.zero_terms = zero_terms_of_block;
  k.dequantize = dequantize_row;
  k.min_max = min_max;
  k.quantize = quantize;
  k.sum32 = sum_by_32;
  k.split_floats = split_units;
  k.bit_dot = bit_dot;
  return k;
}

}  // namespace

const Kernels& baseline_kernels() {
  static const Kernels kernels = make();
  return kernels;
}

}  // namespace abq::runtime
