// The steps of float_rows.cu: weights on their way, x in shared memory, products and sums.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "runtime/cuda/tokens/row_kernel.cuh"
#include "runtime/cuda/tokens/token_launchers.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kRows = 4;  // of a group
constexpr int kBlockThreads = 512;
constexpr int kSharedBytes = 160 << 10;  // for x

// The values of 16 bytes, four at a time.
template <FloatKind kKind>
struct Vector {
  static constexpr int kCount = 8;
  static constexpr int kBytes = 2;
  static __device__ __forceinline__ void unpack(const uint4& v, int half, float (&out)[4]) {
    const uint32_t words[2] = {half ? v.z : v.x, half ? v.w : v.y};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if constexpr (kKind == FloatKind::kF16) {
        const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
        out[2 * i] = pair.x;
        out[2 * i + 1] = pair.y;
      } else {
        out[2 * i] = __uint_as_float(words[i] << 16);
        out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
      }
    }
  }
};
template <>
struct Vector<FloatKind::kF32> {
  static constexpr int kCount = 4;
  static constexpr int kBytes = 4;
  static __device__ __forceinline__ void unpack(const uint4& v, int, float (&out)[4]) {
    out[0] = __uint_as_float(v.x);
    out[1] = __uint_as_float(v.y);
    out[2] = __uint_as_float(v.z);
    out[3] = __uint_as_float(v.w);
  }
};

struct FloatRows {
  const unsigned char* weights;
  int64_t row_bytes;
  int64_t n;
  int k;
  int m;
  RowsIn x;
  RowsIn residual;
  RowsOut y;
  bool vector;      // x can be read 16 bytes at once
  int steps;        // of a row
  int chunk_steps;  // whose part of x is in shared memory at a time
  int groups;       // of rows
};

// Where a warp's loads have got to.
template <FloatKind kKind>
struct Cursor {
  const unsigned char* base;  // of the group's first row
  int last_row;               // of the group: rows beyond W's last read that one
  int group;
  int step = 0;

  __device__ __forceinline__ Cursor(const FloatRows& a, int first_group) : group(first_group) {
    find_rows(a);
  }
  __device__ __forceinline__ void find_rows(const FloatRows& a) {
    const int64_t row = static_cast<int64_t>(group) * kRows;
    base = a.weights + row * a.row_bytes;
    last_row = static_cast<int>(min(a.n - 1 - row, static_cast<int64_t>(kRows - 1)));
  }
  __device__ __forceinline__ void fetch(const FloatRows& a, int last_group, int warps, int lane,
                                        uint4 (&out)[kRows]) {
    const int column = (step * kLanes + lane) * Vector<kKind>::kCount;
    const bool inside = group < last_group && column < a.k;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      out[r] = make_uint4(0, 0, 0, 0);
      if (inside)
        out[r] = load_streaming(reinterpret_cast<const uint4*>(
            base + min(r, last_row) * a.row_bytes + column * Vector<kKind>::kBytes));
    }
    if (++step < a.steps) return;
    step = 0;
    group += warps;
    find_rows(a);
  }
};

// x of the steps from `first_step` on: [token][step][half][lane][4].
template <FloatKind kKind, int kM>
__device__ void stage_x(const FloatRows& a, int first_step, float* shared) {
  constexpr int kStep = kLanes * Vector<kKind>::kCount;
  constexpr int kHalves = Vector<kKind>::kCount / 4;
  const RowShape shape{a.k, 0, 1, a.vector};
  const int words = a.chunk_steps * kStep / 4;
  for (int m = 0; m < kM; ++m) {
    for (int i = static_cast<int>(threadIdx.x); i < words; i += static_cast<int>(blockDim.x)) {
      const int column = first_step * kStep + 4 * i;
      float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (m < a.m) v = load_words(a.x.data + a.x.stride * m, column, shape);
      const int step = i / (kStep / 4);
      const int lane = i / kHalves % kLanes;
      const int half = i % kHalves;
      *reinterpret_cast<float4*>(shared + (m * a.chunk_steps + step) * kStep +
                                 (half * kLanes + lane) * 4) = v;
    }
  }
}

template <FloatKind kKind, int kM>
__device__ __forceinline__ void multiply_step(const uint4 (&w)[kRows], const float* x,
                                              int token_stride, int lane,
                                              float (&sums)[kRows * kM]) {
#pragma unroll
  for (int half = 0; half < Vector<kKind>::kCount / 4; ++half) {
    float values[kRows][4];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      Vector<kKind>::unpack(w[r], half, values[r]);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const float4 v =
          *reinterpret_cast<const float4*>(x + m * token_stride + (half * kLanes + lane) * 4);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float& sum = sums[r * kM + m];
        sum = __fmaf_rn(values[r][0], v.x, sum);
        sum = __fmaf_rn(values[r][1], v.y, sum);
        sum = __fmaf_rn(values[r][2], v.z, sum);
        sum = __fmaf_rn(values[r][3], v.w, sum);
      }
    }
  }
}

// Adds up kCount sums over the lanes; each halving of the sums a lane still holds goes with one
// exchange. Sum i ends in v[0] of lanes i * 32 / kCount and following.
template <int kCount, int kDistance = 16, int kSize>
__device__ __forceinline__ void add_lanes(float (&v)[kSize], int lane) {
  if constexpr (kCount > 1) {
    const bool upper = (lane & kDistance) != 0;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      const float kept = upper ? v[i + kCount / 2] : v[i];
      const float given = upper ? v[i] : v[i + kCount / 2];
      v[i] = kept + __shfl_xor_sync(kAllLanes, given, kDistance);
    }
    if constexpr (kDistance > 1) add_lanes<kCount / 2, kDistance / 2>(v, lane);
  } else {
    v[0] += __shfl_xor_sync(kAllLanes, v[0], kDistance);
    if constexpr (kDistance > 1) add_lanes<1, kDistance / 2>(v, lane);
  }
}

template <int kM>
__device__ __forceinline__ void store_group(const FloatRows& a, int group, int last_group, int lane,
                                            float (&sums)[kRows * kM]) {
  constexpr int kCount = kRows * kM;
  add_lanes<kCount>(sums, lane);
  const int index = lane / (kLanes / kCount);
  const int m = index % kM;
  const int64_t row = static_cast<int64_t>(group) * kRows + index / kM;
  const bool writes = lane % (kLanes / kCount) == 0 && group < last_group && row < a.n && m < a.m;
  if (writes) {
    float value = sums[0];
    if (a.residual.data != nullptr) value += a.residual.data[a.residual.stride * m + row];
    a.y.data[a.y.stride * m + row] = value;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    sums[i] = 0.0f;
}

}  // namespace
}  // namespace abq::runtime::cuda
