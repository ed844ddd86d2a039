// What becomes of the values of the row kernel: codes in their forms, pairs of halves, floats.
#pragma once

#include <cuda_fp16.h>

#include "runtime/cuda/tokens/row_kernel.cuh"

namespace abq::runtime::cuda {

// The factor of the values as a row's range sees it. A NaN (0 times an infinite factor) comes from
// a row that has no value but NaN there; NaN does not move the range.
__device__ __forceinline__ float scaled_bound(float bound, float factor) {
  return fmaxf(compute::cuda::multiply_rn(bound, factor), 0.0f);
}

struct FloatSink {
  struct State {};
  float* y;
  int64_t stride;

  __device__ State begin(const RowStatistics&, float, const RowPlace&) const { return {}; }
  // Beyond the last tile only the store is left out.
  template <bool kVector>
  __device__ void tile(State&, const float (&v)[kLaneValues], int tile, const RowShape& shape,
                       const RowPlace& place) const {
    float* const row = y + stride * place.token;
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i)
      store_words<kVector>(row, tile * kTileDepth + lane_column(i, place.lane), v + 4 * i, shape);
  }
  __device__ void end(const State&, RowExchange&, const RowPlace&) const {}
};

struct QuantizeSink {
  struct State {
    TokenGrid grid;
    uint32_t sum;
  };
  TokenTiles tokens;
  FloatSink floats;  // y may be null
  float max_code;

  __device__ State begin(const RowStatistics& s, float factor, const RowPlace& place) const {
    const TokenGrid grid =
        token_grid(scaled_bound(s.high, factor), scaled_bound(s.minus_low, factor), max_code);
    if (place.rank == 0 && threadIdx.x == 0) {
      tokens.scales[place.token] = grid.scale;
      tokens.zeros[place.token] = grid.zero;
    }
    return {grid, 0};
  }

  template <bool kVector>
  __device__ void tile(State& state, float (&v)[kLaneValues], int tile, const RowShape& shape,
                       const RowPlace& place) const {
    FloatSink::State none;
    if (floats.y != nullptr) floats.tile<kVector>(none, v, tile, shape, place);
    if (state.grid.divisor.factor != 1.0f) {
#pragma unroll
      for (int i = 0; i < kLaneValues; ++i)
        v[i] = compute::cuda::multiply_rn(v[i], state.grid.divisor.factor);
    }
    uint32_t words[kLaneWords];
    uint32_t pair = 0;  // sums of the two words, in halves
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i) {
      const int column = tile * kTileDepth + lane_column(i, place.lane);
      words[i] = first_codes(code_word(v + 4 * i, state.grid), shape.columns - column);
      pair += __dp4a(words[i], 0x01010101u, 0u) << (16 * i);
    }
    state.sum += (pair & 0xffffu) + (pair >> 16);
    if (tokens.group_sums != nullptr) store_group_sums(pair, tile, shape, place);
    if (tokens.codes != nullptr) store_codes(words, tile, shape, place);
    if (tokens.planes != nullptr) store_planes(words, tile, shape, place);
  }

  __device__ void end(const State& state, RowExchange& exchange, const RowPlace& place) const {
    if (tokens.sums == nullptr) return;
    const uint32_t sum = sum_of_codes(exchange, state.sum, place);
    if (place.rank == 0 && threadIdx.x == 0) tokens.sums[place.token] = static_cast<int32_t>(sum);
  }

 private:
  // Group s = 4 i + q of a tile is the words i of the 8 lanes of quarter q: at most 8160 a sum.
  __device__ void store_group_sums(uint32_t pair, int tile, const RowShape& shape,
                                   const RowPlace& place) const {
#pragma unroll
    for (int distance = 1; distance < 8; distance *= 2)
      pair += __shfl_xor_sync(kAllLanes, pair, distance);
    const int i = place.lane & 7;
    if (i >= kLaneWords || tile >= shape.tiles) return;
    int32_t* const sums =
        tokens.group_sums + (static_cast<int64_t>(place.token) * shape.tiles + tile) * 8;
    sums[4 * i + lane_quarter(place.lane)] = static_cast<int32_t>((pair >> (16 * i)) & 0xffffu);
  }

  __device__ void store_codes(const uint32_t (&words)[kLaneWords], int tile, const RowShape& shape,
                              const RowPlace& place) const {
    if (tile >= shape.tiles) return;
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i) {
      const int64_t column = static_cast<int64_t>(tile) * kTileDepth + lane_column(i, place.lane);
      *reinterpret_cast<uint32_t*>(tokens.codes + code_byte(place.token, shape.tiles, column)) =
          words[i];
    }
  }

  __device__ void store_planes(uint32_t (&words)[kLaneWords], int tile, const RowShape& shape,
                               const RowPlace& place) const {
    transpose_own(words);
#pragma unroll
    for (int distance = 16; distance >= 8; distance /= 2) {
#pragma unroll
      for (int i = 0; i < kLaneWords; ++i) {
        words[i] = transpose_across(words[i], __shfl_xor_sync(kAllLanes, words[i], distance),
                                    place.lane, distance);
      }
    }
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i) {
      const int plane = 4 * i + lane_quarter(place.lane);
      if (plane < tokens.bits && tile < shape.tiles) {
        tokens.planes[plane_word(tokens.m, place.token, shape.tiles, tile, tokens.bits, plane,
                                 place.lane)] = words[i];
      }
    }
  }
};

// Values over a power of two as a float16 and the float16 of what it leaves.
struct HalvesSink {
  struct State {
    float inverse;  // of the scale
  };
  HalfTokens tokens;

  __device__ State begin(const RowStatistics& s, float, const RowPlace& place) const {
    const float scale = half_scale(fmaxf(s.high, s.minus_low));
    if (place.rank == 0 && threadIdx.x == 0) tokens.scales[place.token] = scale;
    return {1.0f / scale};
  }

  template <bool kVector>
  __device__ void tile(State& state, const float (&v)[kLaneValues], int tile, const RowShape& shape,
                       const RowPlace& place) const {
    const int64_t padded = static_cast<int64_t>(shape.tiles) * kTileDepth;
    uint16_t* const high = tokens.halves + 2 * padded * place.token;
    if (tile >= shape.tiles) return;
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i) {
      alignas(8) __half2 pairs[2][2];  // [high, low][columns 0 and 2, columns 1 and 3]
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        const float a = v[4 * i + odd] * state.inverse;
        const float b = v[4 * i + odd + 2] * state.inverse;
        pairs[0][odd] = __floats2half2_rn(a, b);
        const float2 kept = __half22float2(pairs[0][odd]);
        pairs[1][odd] = __floats2half2_rn(a - kept.x, b - kept.y);
      }
      uint16_t* const place_of_word = high + tile * kTileDepth + lane_column(i, place.lane);
      *reinterpret_cast<uint2*>(place_of_word) = *reinterpret_cast<const uint2*>(pairs[0]);
      *reinterpret_cast<uint2*>(place_of_word + padded) = *reinterpret_cast<const uint2*>(pairs[1]);
    }
  }
  __device__ void end(const State&, RowExchange&, const RowPlace&) const {}
};

}  // namespace abq::runtime::cuda
