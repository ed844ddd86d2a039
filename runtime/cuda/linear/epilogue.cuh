// From sums of code products to outputs: the integer identity of docs/quantization.md in int64, one
// rounding to float32, then scales, gating and residual in this order.
#pragma once

#include <cstdint>

#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

// What the sums of rows g and g + 8 of a tile are corrected by (per channel).
struct RowTerms {
  float scale[2];
  int32_t zero[2];
  int32_t sum[2];
};
struct TokenTerms {
  float scale;
  int32_t zero;
  int32_t sum;
};

__device__ __forceinline__ RowTerms load_row_terms(const WeightTiles& w, int n_tile, int group,
                                                   int g) {
  const int64_t at = (static_cast<int64_t>(n_tile) * w.groups + group) * kTileRows + g;
  RowTerms terms;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    terms.scale[i] = __ldg(w.scales + at + 8 * i);
    terms.zero[i] = __ldg(w.zeros + at + 8 * i);
    terms.sum[i] = __ldg(w.sums + at + 8 * i);
  }
  return terms;
}

__device__ __forceinline__ TokenTerms load_token_terms(const TokenTiles& x, int token) {
  return {x.scales[token], x.zeros[token], x.sums[token]};
}

// Rows g, g + 8 and one token: sum of qx qw -> the product in units of the weights' scale. `length`
// inputs share the terms.
__device__ __forceinline__ int64_t apply_zeros(int64_t product, int denominator, int64_t w_zero,
                                               int64_t w_sum, int64_t x_zero, int64_t x_sum,
                                               int64_t length) {
  return denominator * (product - x_zero * w_sum) - w_zero * x_sum + length * x_zero * w_zero;
}

// What is added to the outputs of rows g and g + 8 (gated: of the one output of both), and where it
// is: floats from output.residual on, negative where there is none.
struct ResidualPair {
  float low = 0.0f;
  float high = 0.0f;
};
struct ResidualPlace {
  int64_t low = -1;
  int64_t high = -1;
};
__device__ __forceinline__ ResidualPlace place_residual(const WeightTiles& w,
                                                        const LinearOutput& output, int n_tile,
                                                        int g, int token) {
  ResidualPlace place;
  if (output.residual == nullptr) return place;
  const int64_t row = token * output.residual_stride;
  const int column = w.gated ? 8 * n_tile + g : kTileRows * n_tile + g;
  if (column < (w.gated ? w.n / 2 : w.n)) place.low = row + column;
  if (!w.gated && column + 8 < w.n) place.high = row + column + 8;
  return place;
}
__device__ __forceinline__ ResidualPair read_residual(const LinearOutput& output,
                                                      const ResidualPlace& place) {
  ResidualPair pair;
  if (place.low >= 0) pair.low = output.residual[place.low];
  if (place.high >= 0) pair.high = output.residual[place.high];
  return pair;
}
__device__ __forceinline__ ResidualPair load_residual(const WeightTiles& w,
                                                      const LinearOutput& output, int n_tile, int g,
                                                      int token) {
  return read_residual(output, place_residual(w, output, n_tile, g, token));
}

// y of rows g and g + 8 of tile n_tile. Without a residual 0 is added, which changes no value.
__device__ __forceinline__ void store_pair(const WeightTiles& w, const LinearOutput& output,
                                           int n_tile, int g, int token,
                                           const ResidualPair& residual, float low, float high) {
  float* const y = output.y + token * output.stride;
  if (w.gated) {
    const int column = 8 * n_tile + g;
    if (2 * column < w.n) y[column] = low / (1.0f + expf(-low)) * high + residual.low;
    return;
  }
  const int row = kTileRows * n_tile + g;
  if (row < w.n) y[row] = low + residual.low;
  if (row + 8 < w.n) y[row + 8] = high + residual.high;
}

// Sums of qx qw of a group; rows of gated tiles in the order of the parts: gates, then ups.
__device__ __forceinline__ void store_raw_pair(const WeightTiles& w, const LinearOutput& output,
                                               int n_tile, int group, int g, int token, int64_t low,
                                               int64_t high) {
  const int row = w.gated ? 8 * n_tile + g : kTileRows * n_tile + g;
  const int next = w.gated ? w.n / 2 + row : row + 8;
  const int limit = w.gated ? w.n / 2 : w.n;
  int64_t* const raw = output.raw + static_cast<int64_t>(token) * w.n * w.groups + group;
  if (row < limit) raw[static_cast<int64_t>(row) * w.groups] = low;
  if (next < w.n && (!w.gated || row < limit)) raw[static_cast<int64_t>(next) * w.groups] = high;
}

// A value that is ready here, not computed where it is first used: what can be done before the
// kernel ahead has finished must not be left for later.
__device__ __forceinline__ void compute_now(int64_t& value) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(value));
#endif
}
__device__ __forceinline__ void compute_now(ResidualPlace& place) {
  compute_now(place.low);
  compute_now(place.high);
}

// Per channel: rows g and g + 8 of one token.
__device__ __forceinline__ void finish_pair(const WeightTiles& w, const LinearOutput& output,
                                            int n_tile, int g, int token, const RowTerms& rows,
                                            const TokenTerms& x, const ResidualPair& residual,
                                            int64_t low, int64_t high) {
  if (output.raw != nullptr) {
    store_raw_pair(w, output, n_tile, 0, g, token, low, high);
    return;
  }
  const int64_t first =
      apply_zeros(low, w.denominator, rows.zero[0], rows.sum[0], x.zero, x.sum, w.k);
  const int64_t second =
      apply_zeros(high, w.denominator, rows.zero[1], rows.sum[1], x.zero, x.sum, w.k);
  store_pair(w, output, n_tile, g, token, residual,
             x.scale * (rows.scale[0] * static_cast<float>(first)),
             x.scale * (rows.scale[1] * static_cast<float>(second)));
}

// Groups: what one group adds to the float sum of a row.
__device__ __forceinline__ float group_term(const WeightTiles& w, float scale, int32_t w_zero,
                                            int32_t w_sum, int32_t x_zero, int32_t x_sum,
                                            int32_t product) {
  const int32_t integer = w.denominator * (product - x_zero * w_sum) - w_zero * x_sum +
                          w.group_size * x_zero * w_zero;  // below 2^25: group_size <= 128
  return scale * static_cast<float>(integer);
}

// Sum of the activation codes of a group of a token.
__device__ __forceinline__ int32_t token_group_sum(const TokenTiles& x, int k_tiles, int token,
                                                   int group, int group_steps) {
  const int32_t* const sums =
      x.group_sums + static_cast<int64_t>(token) * 8 * k_tiles + group * group_steps;
  int32_t sum = 0;
  for (int i = 0; i < group_steps; ++i)
    sum += sums[i];
  return sum;
}

}  // namespace abq::runtime::cuda
