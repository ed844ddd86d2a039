// The arithmetic of quantized tokens and the places of their codes, for host and device: tests run
// on the CPU what the kernels run.
//
// A warp works on tiles of 256 columns. Lane 8 q + 4 h + t holds the columns 128 i + 4 lane + b of
// a tile (i = 0, 1; b = 0..3), one code word of four bytes for each i, so that loads are
// contiguous. These are the inputs 32 s + 16 h + 4 t + b of views.h with s = 4 i + q.
#pragma once

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "compute/cuda/portable_math.cuh"
#include "runtime/cuda/linear/tile_layout.h"
#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

constexpr int kLaneWords = 2;   // code words of a lane and tile
constexpr int kLaneValues = 8;  // columns of a lane and tile

__host__ __device__ constexpr int lane_column(int i, int lane) {
  return 128 * i + 4 * lane;
}
__host__ __device__ constexpr int lane_quarter(int lane) {
  return lane >> 3;
}
__host__ __device__ constexpr int lane_half(int lane) {
  return (lane >> 2) & 1;
}
__host__ __device__ constexpr int lane_t(int lane) {
  return lane & 3;
}

// Index of a word of TokenTiles::planes of m tokens.
__host__ __device__ constexpr int64_t plane_word(int m, int64_t token, int tiles, int tile,
                                                 int bits, int plane, int lane) {
  return 2 * plane_pair(m, token, tiles, tile, bits, plane, lane_t(lane)) + lane_half(lane);
}
// Index of the byte of column k, a multiple of 4, in TokenTiles::codes.
__host__ __device__ constexpr int64_t code_byte(int64_t token, int tiles, int64_t k) {
  return (((token >> 3) * 16 * tiles + (k >> 4)) * 8 + (token & 7)) * 16 + (k & 15);
}

// --- An 8 x 8 bit transpose of each byte position
//
// Word s holds codes: bit j of byte b. Wanted: word j with bit 8 b + s. The three bits of s and of
// the bit's place change roles one at a time: the highest between the two words of a lane, the
// others between lanes 16 and 8 apart (their quarters differ in bit 1 and 0). Afterwards word i of
// a lane is plane 4 i + q.
__host__ __device__ constexpr void transpose_own(uint32_t (&w)[kLaneWords]) {
  const uint32_t first = w[0];
  w[0] = (first & 0x0f0f0f0fu) | ((w[1] & 0x0f0f0f0fu) << 4);
  w[1] = ((first >> 4) & 0x0f0f0f0fu) | (w[1] & 0xf0f0f0f0u);
}
// `other` is the same word of the lane `distance` (16 or 8) away.
__host__ __device__ constexpr uint32_t transpose_across(uint32_t own, uint32_t other, int lane,
                                                        int distance) {
  const uint32_t low = distance == 16 ? 0x33333333u : 0x55555555u;
  const int shift = distance == 16 ? 2 : 1;
  return (lane & distance) ? ((other >> shift) & low) | (own & ~low)
                           : (own & low) | ((other & low) << shift);
}

// --- The quantizer of quant/affine.h

ABQ_HOST_DEVICE float fused_multiply_add(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}
ABQ_HOST_DEVICE uint32_t bits_of(float x) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(x);
#else
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
#endif
}

// Divides by one scale many times: x / scale = x * factor / divisor, where the reciprocal of the
// divisor is a normal number.
struct ScaleDivisor {
  float factor;  // a power of two, mostly 1, or 0 for an infinite scale
  float divisor;
  float reciprocal;  // rounded to nearest
};

// scale >= 1e-8.
ABQ_HOST_DEVICE ScaleDivisor divisor_of(float scale) {
  constexpr float kLargest = 0x1p126f;
  ScaleDivisor d{1.0f, scale, 0.0f};
  if (scale > kLargest) {
    const bool infinite = bits_of(scale) == 0x7f800000u;
    d.factor = infinite ? 0.0f : 0x1p-8f;
    d.divisor = infinite ? 1.0f : scale * 0x1p-8f;
  }
  d.reciprocal = compute::cuda::divide_rn(1.0f, d.divisor);
  return d;
}

// RN(x / divisor) wherever the quotient is 2^-30 or more; below, something as small, which rounds
// to 0 as well. x already carries the factor. The first correction brings the quotient within one
// unit of the last place, so that the second one's remainder is exact and its sum rounds as the
// true quotient does (Markstein 1990: the reciprocal is correctly rounded). NaN stays NaN.
ABQ_HOST_DEVICE float quotient(float x, const ScaleDivisor& d) {
  float q = compute::cuda::multiply_rn(x, d.reciprocal);
  q = fused_multiply_add(fused_multiply_add(-q, d.divisor, x), d.reciprocal, q);
  return fused_multiply_add(fused_multiply_add(-q, d.divisor, x), d.reciprocal, q);
}

// What the codes of a token mean. Codes are made beside kShift, at whose size a float32 holds
// integers only: t = x / scale + kShift is rounded half to even and clamped to [first, last], and
// the code is the distance of its bits from those of `first`.
struct TokenGrid {
  ScaleDivisor divisor;
  float scale;
  int zero;
  float first;  // kShift - zero: code 0
  float last;
};

constexpr float kShift = 12582912.0f;  // 1.5 * 2^23

// high >= 0 and -low >= 0, neither NaN.
ABQ_HOST_DEVICE TokenGrid token_grid(float high, float minus_low, float max_code) {
  constexpr float kMinScale = 1e-8f;  // quant::kMinScale
  const float raw = compute::cuda::divide_rn(compute::cuda::add_rn(high, minus_low), max_code);
  TokenGrid grid{};
  grid.scale = raw > kMinScale ? raw : kMinScale;
  grid.divisor = divisor_of(grid.scale);
  const float zero =
      quotient(compute::cuda::multiply_rn(minus_low, grid.divisor.factor), grid.divisor);
  const float shifted = fminf(fmaxf(compute::cuda::add_rn(zero, kShift), kShift),
                              compute::cuda::add_rn(kShift, max_code));
  grid.zero = static_cast<int>(bits_of(shifted) - bits_of(kShift));
  grid.first = compute::cuda::subtract_rn(kShift, static_cast<float>(grid.zero));
  grid.last = compute::cuda::add_rn(grid.first, max_code);
  return grid;
}

// The codes of four neighbours, the first in the lowest byte. Values carry the factor of the
// divisor. NaN becomes code 0: fmaxf() returns its other operand.
ABQ_HOST_DEVICE uint32_t code_word(const float* values, const TokenGrid& grid) {
  uint32_t word = 0;
  uint32_t start = 0;
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
  for (int b = 0; b < 4; ++b) {
    const float t = compute::cuda::add_rn(quotient(values[b], grid.divisor), kShift);
    // Sums of shifted bit patterns, modulo 2^32: the start of all four is taken off at once.
    word += bits_of(fminf(fmaxf(t, grid.first), grid.last)) << (8 * b);
    start += bits_of(grid.first) << (8 * b);
  }
  return word - start;
}

// Keeps the codes of the first `count` of four columns, the rest become 0.
__host__ __device__ constexpr uint32_t first_codes(uint32_t word, int count) {
  return count >= 4 ? word : count <= 0 ? 0u : word & ((1u << (8 * count)) - 1u);
}

// --- Pairs of float16 (HalfTokens)

// The power of two that brings `largest` (>= 0) into [2^14, 2^15), so that the high half does not
// overflow and the low half keeps its bits; 1 for 0, infinity and NaN.
ABQ_HOST_DEVICE float half_scale(float largest) {
  const uint32_t bits = bits_of(largest);
  const int exponent = static_cast<int>(bits >> 23);
  if (bits == 0 || exponent == 255) return 1.0f;
  const uint32_t scale = static_cast<uint32_t>(exponent > 15 ? exponent - 14 : 1) << 23;
#ifdef __CUDA_ARCH__
  return __uint_as_float(scale);
#else
  float result;
  std::memcpy(&result, &scale, sizeof result);
  return result;
#endif
}

}  // namespace abq::runtime::cuda
