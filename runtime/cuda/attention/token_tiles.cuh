// A row of floats in shared memory as quantized token, as views.h lays it out. A warp takes one
// tile of 256 inputs; lane 4 s + 2 h + t / 2 holds the inputs 8 lane .. 8 lane + 7, which are words
// (t, h) and (t + 1, h) at bits 8 b + s.
#pragma once

#include "runtime/cuda/attention/head_rows.cuh"
#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

// Bit j of the four codes in the bytes of `word`, over the eight lanes of one (h, t): the word of
// plane s for lane s of them. Each of three steps halves the planes a lane still cares for.
__device__ __forceinline__ uint32_t gather_plane(uint32_t word, int lane) {
  const int s = lane / 4;
  uint32_t x[8];
#pragma unroll
  for (int j = 0; j < 8; ++j)
    x[j] = ((word >> j) & 0x01010101u) << s;
#pragma unroll
  for (int size = 4; size > 0; size /= 2) {
    const bool upper = (s & size) != 0;
#pragma unroll
    for (int j = 0; j < size; ++j) {
      const uint32_t keep = upper ? x[j + size] : x[j];
      const uint32_t send = upper ? x[j] : x[j + size];
      x[j] = keep | __shfl_xor_sync(kAllLanes, send, 4 * size);
    }
  }
  return x[0];
}

__device__ __forceinline__ uint32_t byte_sum(uint32_t word) {
  const uint32_t pairs = (word & 0x00ff00ffu) + ((word >> 8) & 0x00ff00ffu);
  return (pairs & 0xffffu) + (pairs >> 16);
}

// Writes tile `tile` of row `token`; `values` (16-byte aligned) are its 256 inputs, those from k on
// count as code 0. Returns the sum of its codes to every lane.
__device__ __forceinline__ int write_token_tile(const TokenTiles& tokens, int token, int tile,
                                                const float* values,
                                                const compute::cuda::CodeGrid& grid, int lane) {
  const int tiles = tiles_of(tokens.k, kTileDepth);
  const int first = tile * kTileDepth + 8 * lane;
  uint32_t words[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    words[i] = 0;
    const float4 quad = *reinterpret_cast<const float4*>(values + 8 * lane + 4 * i);
    const float x[4] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      const float code = code_of(x[b], grid);
      if (first + 4 * i + b < tokens.k)
        words[i] |= static_cast<uint32_t>(static_cast<int>(code)) << (8 * b);
    }
  }
  if (tokens.codes != nullptr) {
    const int64_t row = (static_cast<int64_t>(token / 8) * 16 * tiles + first / 16) * 128;
    *reinterpret_cast<uint2*>(tokens.codes + row + token % 8 * 16 + first % 16) =
        make_uint2(words[0], words[1]);
  }
  if (tokens.planes != nullptr) {
    const int h = lane / 2 % 2;
    const int plane = lane / 4;
    const int64_t base = ((static_cast<int64_t>(token) * tiles + tile) * tokens.bits + plane) * 8;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t word = gather_plane(words[i], lane);
      const int t = lane % 2 * 2 + i;
      if (plane < tokens.bits) tokens.planes[base + t * 2 + h] = word;
    }
  }
  int sum = static_cast<int>(byte_sum(words[0]) + byte_sum(words[1]));
  sum += __shfl_xor_sync(kAllLanes, sum, 1);
  sum += __shfl_xor_sync(kAllLanes, sum, 2);
  if (tokens.group_sums != nullptr && lane % 4 == 0)
    tokens.group_sums[(static_cast<int64_t>(token) * tiles + tile) * 8 + lane / 4] = sum;
  sum += __shfl_xor_sync(kAllLanes, sum, 4);
  sum += __shfl_xor_sync(kAllLanes, sum, 8);
  sum += __shfl_xor_sync(kAllLanes, sum, 16);
  return sum;
}

}  // namespace abq::runtime::cuda
