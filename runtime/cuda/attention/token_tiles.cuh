// A row of floats in shared memory as quantized token, as views.h lays it out: a warp takes one
// tile of 256 inputs, its lanes the columns that runtime/cuda/tokens/token_math.h deals to them.
#pragma once

#include "runtime/cuda/attention/warp.cuh"
#include "runtime/cuda/tokens/token_math.h"
#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

__device__ __forceinline__ uint32_t byte_sum(uint32_t word) {
  const uint32_t pairs = (word & 0x00ff00ffu) + ((word >> 8) & 0x00ff00ffu);
  return (pairs & 0xffffu) + (pairs >> 16);
}

// Words of a lane and bit: word i of the result is plane 4 i + lane / 8.
__device__ __forceinline__ void transpose_codes(uint32_t (&words)[kLaneWords], int lane) {
  transpose_own(words);
#pragma unroll
  for (int distance = 16; distance >= 8; distance /= 2) {
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i) {
      const uint32_t other = __shfl_xor_sync(kAllLanes, words[i], distance);
      words[i] = transpose_across(words[i], other, lane, distance);
    }
  }
}

// Writes tile `tile` of row `token`; `values` (16-byte aligned) are its 256 inputs, those from k on
// count as code 0. Returns the sum of this lane's codes.
__device__ __forceinline__ uint32_t write_token_tile(const TokenTiles& tokens, int token, int tile,
                                                     const float* values, const TokenGrid& grid,
                                                     int lane) {
  const int tiles = tiles_of(tokens.k, kTileDepth);
  uint32_t words[kLaneWords];
  uint32_t pair = 0;  // sums of the two words, in halves
#pragma unroll
  for (int i = 0; i < kLaneWords; ++i) {
    const float4 quad = *reinterpret_cast<const float4*>(values + lane_column(i, lane));
    float x[4] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
    for (int b = 0; b < 4; ++b)
      x[b] = compute::cuda::multiply_rn(x[b], grid.divisor.factor);
    const int column = tile * kTileDepth + lane_column(i, lane);
    words[i] = first_codes(code_word(x, grid), tokens.k - column);
    pair |= byte_sum(words[i]) << (16 * i);
    if (tokens.codes != nullptr)
      *reinterpret_cast<uint32_t*>(tokens.codes + code_byte(token, tiles, column)) = words[i];
  }
  const uint32_t sum = (pair & 0xffffu) + (pair >> 16);
  if (tokens.planes != nullptr) {
    transpose_codes(words, lane);
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i) {
      const int plane = 4 * i + lane_quarter(lane);
      if (plane < tokens.bits)
        tokens.planes[plane_word(tokens.m, token, tiles, tile, tokens.bits, plane, lane)] =
            words[i];
    }
  }
  if (tokens.group_sums != nullptr) {
    // Group 4 i + q is the words i of the eight lanes of quarter q: at most 8160 a sum.
#pragma unroll
    for (int distance = 1; distance < 8; distance *= 2)
      pair += __shfl_xor_sync(kAllLanes, pair, distance);
    const int i = lane % 8;
    if (i < kLaneWords) {
      const int64_t at = (static_cast<int64_t>(token) * tiles + tile) * 8;
      tokens.group_sums[at + 4 * i + lane_quarter(lane)] =
          static_cast<int32_t>((pair >> (16 * i)) & 0xffffu);
    }
  }
  return sum;
}

}  // namespace abq::runtime::cuda
