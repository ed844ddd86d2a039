// Kernels that the compiler vectorizes well by itself. Every translation unit of an instruction set
// includes this and gets its own copy, compiled for that set (hence the unnamed namespace).
#pragma once

#include "runtime/cpu/kernels.h"

namespace abq::runtime {
namespace {

constexpr int log2_groups(int groups_per_unit) {
  return groups_per_unit == 4 ? 2 : groups_per_unit == 2 ? 1 : 0;
}

// int32 arithmetic that may wrap on the way: the final value is known to fit.
inline int32_t wrapping(int32_t d, int32_t s, int32_t zero, int32_t token_sum, int32_t token_zero,
                        int32_t row_term) {
  const uint32_t t = static_cast<uint32_t>(d) * static_cast<uint32_t>(s) -
                     static_cast<uint32_t>(zero) * static_cast<uint32_t>(token_sum) +
                     static_cast<uint32_t>(token_zero) * static_cast<uint32_t>(row_term);
  return static_cast<int32_t>(t);
}

void finish_panel(const FinishArgs& a) {
  alignas(64) float values[kTileRows][kPanelTokens];
  for (int r = 0; r < a.rows; ++r) {
    const int32_t* s = a.sums + r * kPanelTokens;
    for (int t = 0; t < kPanelTokens; ++t) {
      const int32_t sum = wrapping(a.denominator, s[t], a.zeros[r], a.token_sums[t],
                                   a.token_zeros[t], a.row_terms[r]);
      values[r][t] = static_cast<float>(sum) * (a.token_scales[t] * a.scales[r]);
    }
  }
  for (int t = 0; t < a.tokens; ++t) {
    float* y = a.y + t * a.y_stride;
    for (int r = 0; r < a.rows; ++r)
      y[r] = values[r][t];
  }
}

void zero_terms_of_block(const float* scales, const uint8_t* zeros, const float* token_sums,
                         int64_t count, int groups_per_unit, float zero_scale, float centre,
                         float* out) {
  float lanes[16] = {};
  for (int64_t i = 0; i < count; i += 16) {
    for (int l = 0; l < 16; ++l) {
      const float zero = static_cast<float>(zeros[i + l]) * zero_scale - centre;
      lanes[l] += scales[i + l] * zero * token_sums[i + l];
    }
  }
  for (int r = 0; r < kBlockRows; ++r)
    out[r] = 0;
  for (int l = 0; l < 16; ++l)
    out[(l / groups_per_unit) % kBlockRows] += lanes[l];
}

void dequantize_row(const int8_t* codes, int64_t count, float scale, float zero, float* row) {
  for (int64_t i = 0; i < count; ++i)
    row[i] = scale * (static_cast<float>(codes[i]) - zero);
}

void split_unit(const float* values, int8_t* digits, float* step, int32_t* sums32) {
  constexpr int32_t kInfinity = 0x7f800000;
  constexpr int32_t kQuietNan = 0x7fc00000;
  // Smaller exponents would take the inverse of the step out of range.
  constexpr int32_t kMinExponent = 30;
  int32_t bits[kUnitCodes];
  __builtin_memcpy(bits, values, sizeof(bits));
  int32_t largest = 0;
  for (int i = 0; i < kUnitCodes; ++i) {
    const int32_t magnitude = bits[i] & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  if (largest >= kInfinity) {
    __builtin_memcpy(step, &kQuietNan, sizeof(float));
    __builtin_memset(digits, 0, kDigitBytes);
    __builtin_memset(sums32, 0, 4 * sizeof(int32_t));
    return;
  }
  // The largest integers that three digits hold lie just below 2^23: magnitudes so near a power of
  // two count as if above it.
  int32_t exponent = (largest + 0x20000) >> 23;
  exponent = exponent > kMinExponent ? exponent : kMinExponent;
  const int32_t step_bits = (exponent - 22) << 23;
  const int32_t inverse_bits = (276 - exponent) << 23;
  float inverse;
  __builtin_memcpy(step, &step_bits, sizeof(float));
  __builtin_memcpy(&inverse, &inverse_bits, sizeof(float));
  int32_t integers[kUnitCodes];
  for (int i = 0; i < kUnitCodes; ++i) {
    const float scaled = values[i] * inverse;
    integers[i] = static_cast<int32_t>(scaled + (scaled < 0 ? -0.5f : 0.5f));
  }
  for (int i = 0; i < kUnitCodes; ++i) {
    const int32_t shifted = integers[i] + 0x808080;
    digits[i] = static_cast<int8_t>(shifted ^ 0x80);
    digits[kUnitCodes + i] = static_cast<int8_t>((shifted >> 8) ^ 0x80);
    digits[2 * kUnitCodes + i] = static_cast<int8_t>((shifted >> 16) ^ 0x80);
  }
  for (int part = 0; part < 4; ++part) {
    int32_t sum = 0;
    for (int i = 0; i < 32; ++i)
      sum += integers[32 * part + i];
    sums32[part] = sum;
  }
}

void split_units(const float* values, int64_t units, int8_t* digits, float* steps,
                 int32_t* sums32) {
  for (int64_t u = 0; u < units; ++u)
    split_unit(values + u * kUnitCodes, digits + u * kDigitBytes, steps + u, sums32 + 4 * u);
}

void sum_by_32(const uint8_t* codes, int64_t sums_count, int32_t* sums) {
  for (int64_t i = 0; i < sums_count; ++i) {
    int32_t sum = 0;
    for (int j = 0; j < 32; ++j)
      sum += codes[i * 32 + j];
    sums[i] = sum;
  }
}

}  // namespace
}  // namespace abq::runtime
