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
