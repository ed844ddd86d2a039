// One head of one token in the registers of a warp: rotation, transform and quantization.
#pragma once

#include "runtime/cuda/attention/cache_layout.h"
#include "runtime/cuda/attention/rotation.cuh"
#include "runtime/cuda/attention/warp.cuh"
#include "runtime/cuda/tokens/token_math.h"

namespace abq::runtime::cuda {

// Lane l holds the pairs (j, j + D/2) for j = l + 32 i; zeros beyond D/2.
template <int kPairs>
struct HeadRow {
  float low[kPairs];
  float high[kPairs];
};

// Zeros where there is nothing to load (x null).
template <int kPairs>
__device__ __forceinline__ HeadRow<kPairs> load_head(const float* x, int half, int lane) {
  HeadRow<kPairs> row;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int j = lane + 32 * i;
    const bool there = x != nullptr && j < half;
    row.low[i] = there ? x[j] : 0.0f;
    row.high[i] = there ? x[j + half] : 0.0f;
  }
  return row;
}

// Cosines and sines of a lane's pairs at a position.
template <int kPairs>
struct HeadRotation {
  Rotation of[kPairs];
};
template <int kPairs>
__device__ __forceinline__ HeadRotation<kPairs> head_rotation(const float* frequencies, int half,
                                                              int64_t position, int lane) {
  HeadRotation<kPairs> result;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int j = lane + 32 * i;
    result.of[i] = rotation(position, j < half ? frequencies[j] : 0.0f);
  }
  return result;
}

template <int kPairs>
__device__ __forceinline__ void rotate_head(HeadRow<kPairs>& row,
                                            const HeadRotation<kPairs>& rotation) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i)
    rotate_pair(rotation.of[i], row.low[i], row.high[i]);
}

// The head, of a power of two of elements, times the Hadamard matrix of that size, times `scale`.
// Additions and their order are those of compute::Device::hadamard: elements at distances 1..16 lie
// in other lanes, at distances below D/2 in other pairs of the lane, at D/2 in the pair itself.
template <int kPairs>
__device__ __forceinline__ void transform_head(HeadRow<kPairs>& row, float scale, int half,
                                               int lane) {
  using namespace compute::cuda;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    if (distance >= half) break;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const float low = __shfl_xor_sync(kAllLanes, row.low[i], distance);
      const float high = __shfl_xor_sync(kAllLanes, row.high[i], distance);
      const bool upper = (lane & distance) != 0;
      row.low[i] = add_rn(low, upper ? -row.low[i] : row.low[i]);
      row.high[i] = add_rn(high, upper ? -row.high[i] : row.high[i]);
    }
  }
#pragma unroll
  for (int distance = 1; distance < kPairs; distance *= 2) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      if ((i & distance) != 0) continue;
      const HeadRow<kPairs> before = row;
      row.low[i] = add_rn(before.low[i], before.low[i + distance]);
      row.low[i + distance] = subtract_rn(before.low[i], before.low[i + distance]);
      row.high[i] = add_rn(before.high[i], before.high[i + distance]);
      row.high[i + distance] = subtract_rn(before.high[i], before.high[i + distance]);
    }
  }
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const float low = row.low[i];
    const float high = row.high[i];
    row.low[i] = multiply_rn(add_rn(low, high), scale);
    row.high[i] = multiply_rn(subtract_rn(low, high), scale);
  }
}

// The largest of numbers >= 0, whose bits are ordered as they are.
__device__ __forceinline__ float warp_largest(float x) {
  return __uint_as_float(__reduce_max_sync(kAllLanes, __float_as_uint(x)));
}

// The grid of a token's head: every lane gets the same. NaN does not move the range.
template <int kPairs>
__device__ __forceinline__ TokenGrid head_grid(const HeadRow<kPairs>& row, int bits) {
  float high = 0.0f;
  float minus_low = 0.0f;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    high = fmaxf(high, fmaxf(row.low[i], row.high[i]));
    minus_low = fmaxf(minus_low, fmaxf(-row.low[i], -row.high[i]));
  }
  // Without the sign that a zero may have.
  high = warp_largest(fabsf(high));
  minus_low = warp_largest(fabsf(minus_low));
  return token_grid(high, minus_low, static_cast<float>((1 << bits) - 1));
}

__device__ __forceinline__ float code_of(float x, const TokenGrid& grid) {
  using namespace compute::cuda;
  const float t = add_rn(quotient(multiply_rn(x, grid.divisor.factor), grid.divisor), kShift);
  return subtract_rn(fminf(fmaxf(t, grid.first), grid.last), grid.first);
}

// Values become codes minus `zero`.
template <int kPairs>
__device__ __forceinline__ void to_codes(HeadRow<kPairs>& row, const TokenGrid& grid, float zero) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    row.low[i] = code_of(row.low[i], grid) - zero;
    row.high[i] = code_of(row.high[i], grid) - zero;
  }
}

// Calls place(d, value) for every element this lane holds of a row padded with zeros.
template <int kPadded, class Place>
__device__ __forceinline__ void for_elements(const HeadRow<kPadded / 64>& row, int head_dim,
                                             int lane, const Place& place) {
  const int half = head_dim / 2;
#pragma unroll
  for (int i = 0; i < kPadded / 64; ++i) {
    const int j = lane + 32 * i;
    if (j < half) {
      place(j, row.low[i]);
      place(j + half, row.high[i]);
    }
  }
#pragma unroll 1
  for (int d = head_dim + lane; d < kPadded; d += 32)
    place(d, 0.0f);
}

__device__ __forceinline__ uint16_t half_bits(float x) {
  return __half_as_ushort(__float2half_rn(x));
}

// Writes a row as the cache keeps it to `stage` (codes or float16, one each 16 bits) and returns
// (scale, zero).
template <int kPadded>
__device__ __forceinline__ float2 encode_row(HeadRow<kPadded / 64> row, int head_dim, int bits,
                                             uint16_t* stage, int lane) {
  if (bits > 8) {
    for_elements<kPadded>(row, head_dim, lane, [&](int d, float x) { stage[d] = half_bits(x); });
    return make_float2(1.0f, 0.0f);
  }
  const TokenGrid grid = head_grid(row, bits);
  to_codes(row, grid, 0.0f);
  // Beyond the head's elements codes are arbitrary: queries are 0 there.
  for_elements<kPadded>(row, head_dim, lane, [&](int d, float code) {
    stage[d] = static_cast<uint16_t>(static_cast<int>(code));
  });
  return make_float2(grid.scale, static_cast<float>(grid.zero));
}

// Word `word` of the packed row.
__device__ __forceinline__ uint32_t packed_word(const uint16_t* stage, int stored, int word) {
  const int codes = 32 / stored;
  uint32_t bits = 0;
  for (int c = 0; c < codes; ++c) {
    bits |= static_cast<uint32_t>(stage[word * codes + c]) << (c * stored);
  }
  return bits;
}

}  // namespace abq::runtime::cuda
