// From sums in registers to the output: the integer identity of docs/quantization.md, scales,
// residual, silu(gate) * up.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "runtime/cuda/views.h"
#include "runtime/cuda/wgmma/fragments.h"

namespace abq::runtime::cuda::wgmma {

// Scale and zero point of a token, and the sum of its codes.
struct TokenTerms {
  float scale;
  int zero;
  int sum;
};
// The same for a row whose weights are scale * (denominator * code - zero) along all of K:
//   sum (qx - zx) (d qw - zw) = d sum qx qw - zx offset - zw sum qx      offset = d sum qw - K zw
// The intermediate values may leave int32, the result does not: unsigned arithmetic gives it.
struct RowTerms {
  float scale;
  uint32_t zero;
  uint32_t offset;
  uint32_t denominator;
};

__device__ __forceinline__ RowTerms load_row_terms(const WeightTiles& w, int n_tile, int row) {
  const int at = n_tile * kTileRows + row;
  const uint32_t zero = static_cast<uint32_t>(__ldg(w.zeros + at));
  const uint32_t d = static_cast<uint32_t>(w.denominator);
  return {__ldg(w.scales + at), zero,
          d * static_cast<uint32_t>(__ldg(w.sums + at)) - static_cast<uint32_t>(w.k) * zero, d};
}
__device__ __forceinline__ float row_product(uint32_t sum, const RowTerms& row,
                                             const TokenTerms& token) {
  const uint32_t bracket = row.denominator * sum - static_cast<uint32_t>(token.zero) * row.offset -
                           row.zero * static_cast<uint32_t>(token.sum);
  return token.scale * (row.scale * static_cast<float>(static_cast<int32_t>(bracket)));
}

__device__ __forceinline__ float silu(float x) {
  return __fdividef(x, 1.0f + expf(-x));
}

// Where a lane's rows g and g + 8 of weight tile n_tile go.
struct OutputRows {
  int column;        // of y, for row g (with gated tiles, of both)
  bool low = false;  // whether row g and row g + 8 exist
  bool high = false;
  int64_t raw_low;  // rows of `raw`: gates first, then ups, when gated
  int64_t raw_high;
};
__device__ __forceinline__ OutputRows output_rows(const WeightTiles& w, int n_tile, int lane) {
  const int g = lane / 4;
  OutputRows rows;
  if (w.gated) {
    rows.column = n_tile * 8 + g;
    rows.low = rows.high = rows.column < w.n / 2;
    rows.raw_low = rows.column;
    rows.raw_high = rows.column + w.n / 2;
  } else {
    rows.column = n_tile * kTileRows + g;
    rows.low = rows.column < w.n;
    rows.high = rows.column + 8 < w.n;
    rows.raw_low = rows.column;
    rows.raw_high = rows.column + 8;
  }
  return rows;
}

// Terms of two tokens next to each other, the first of an even number. Plain loads: the kernel
// ahead writes these arrays, and reads through the read-only cache might be moved before the wait
// for it. Beyond the last token they are arbitrary (views.h).
struct TokenPair {
  float2 scale;
  int2 zero;
  int2 sum;

  __device__ __forceinline__ TokenTerms operator[](int i) const {
    return i == 0 ? TokenTerms{scale.x, zero.x, sum.x} : TokenTerms{scale.y, zero.y, sum.y};
  }
};
__device__ __forceinline__ TokenPair load_token_pair(const TokenTiles& tokens, int token) {
  return {*reinterpret_cast<const float2*>(tokens.scales + token),
          *reinterpret_cast<const int2*>(tokens.zeros + token),
          *reinterpret_cast<const int2*>(tokens.sums + token)};
}

// A lane's part of y for one weight tile and kTokens tokens. kWhole: all of its rows and tokens
// exist. Works in batches: y may be the residual, so that a load never overtakes a store by itself.
template <int kTokens, bool kGated, bool kWhole, class ProductOf>
__device__ __forceinline__ void write_part(const LinearOutput& out, const TokenTiles& tokens,
                                           const OutputRows& rows, int first_token, int lane,
                                           const ProductOf& product) {
  constexpr int kBatch = 4;                 // of 8 tokens over the warp, 2 in a lane
  constexpr int kOutputs = kGated ? 1 : 2;  // of a token
  const int token = first_token + d_token(lane, 0);
  const float* from = out.residual + token * out.residual_stride + rows.column;
  float* to = out.y + token * out.stride + rows.column;
  const auto exists = [&](int step, int o) {
    return kWhole || (token + step < tokens.m && (o == 0 ? rows.low : rows.high));
  };
#pragma unroll
  for (int j0 = 0; j0 < kTokens / 8; j0 += kBatch) {
    TokenPair terms[kBatch];
    float y[kBatch][2][kOutputs] = {};
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
      terms[j] = load_token_pair(tokens, token + 8 * (j0 + j));
    if (out.residual != nullptr) {
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
          for (int o = 0; o < kOutputs; ++o)
            if (exists(8 * (j0 + j) + i, o)) y[j][i][o] = from[i * out.residual_stride + 8 * o];
        }
        from += 8 * out.residual_stride;
      }
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int r = 4 * (j0 + j) + i;
        const float low = product(r, terms[j][i]);
        const float high = product(r + 2, terms[j][i]);
        y[j][i][0] += kGated ? silu(low) * high : low;
        if constexpr (!kGated) y[j][i][1] += high;
      }
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int o = 0; o < kOutputs; ++o)
          if (exists(8 * (j0 + j) + i, o)) to[i * out.stride + 8 * o] = y[j][i][o];
      }
      to += 8 * out.stride;
    }
  }
}

// product(r, terms) is the float product of register r of D (rows g) or r + 2 (rows g + 8) with the
// token of `terms`.
template <int kTokens, class ProductOf>
__device__ __forceinline__ void write_outputs(const LinearOutput& out, const TokenTiles& tokens,
                                              const OutputRows& rows, bool gated, int first_token,
                                              int lane, const ProductOf& product) {
  const bool whole = first_token + kTokens <= tokens.m && __all_sync(0xffffffffu, rows.high);
  if (gated) {
    if (whole) {
      write_part<kTokens, true, true>(out, tokens, rows, first_token, lane, product);
    } else {
      write_part<kTokens, true, false>(out, tokens, rows, first_token, lane, product);
    }
  } else if (whole) {
    write_part<kTokens, false, true>(out, tokens, rows, first_token, lane, product);
  } else {
    write_part<kTokens, false, false>(out, tokens, rows, first_token, lane, product);
  }
}

// Raw sums of one group, for tests: sums[r] - bias are D's registers. Short rather than fast.
template <int kTokens>
__device__ __forceinline__ void write_raw(const LinearOutput& out, const WeightTiles& w, int m,
                                          const OutputRows& rows, int group, int first_token,
                                          int lane, const uint32_t (&sums)[kTokens / 2],
                                          uint32_t bias) {
  uint32_t copy[kTokens / 2];
#pragma unroll
  for (int r = 0; r < kTokens / 2; ++r)
    copy[r] = sums[r];
#pragma unroll 1
  for (int r = 0; r < kTokens / 2; ++r) {
    const int token = first_token + d_token(lane, r);
    const bool upper = d_row(0, r) != 0;
    if (token >= m || !(upper ? rows.high : rows.low)) continue;
    const int64_t row = upper ? rows.raw_high : rows.raw_low;
    out.raw[(static_cast<int64_t>(token) * w.n + row) * w.groups + group] =
        static_cast<int64_t>(copy[r] - bias);
  }
}

// All sums of a warp's weight tile for kTokens tokens, per channel. Tiles beyond the last write
// nothing.
template <int kTokens>
__device__ __forceinline__ void write_channel_sums(const uint32_t (&sums)[kTokens / 2],
                                                   const WeightTiles& w, const TokenTiles& tokens,
                                                   const LinearOutput& out, int n_tile,
                                                   int first_token, int lane) {
  if (n_tile >= count_tiles(w.n, kTileRows)) return;
  const OutputRows rows = output_rows(w, n_tile, lane);
  if (out.raw != nullptr) {
    write_raw<kTokens>(out, w, tokens.m, rows, 0, first_token, lane, sums, 0);
    return;
  }
  const RowTerms low = load_row_terms(w, n_tile, lane / 4);
  const RowTerms high = load_row_terms(w, n_tile, lane / 4 + 8);
  write_outputs<kTokens>(out, tokens, rows, w.gated, first_token, lane,
                         [&](int r, const TokenTerms& terms) {
                           return row_product(sums[r], d_row(0, r) != 0 ? high : low, terms);
                         });
}

}  // namespace abq::runtime::cuda::wgmma
