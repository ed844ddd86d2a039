// What the warps of a token share (runtime/cuda/tokens/row_kernel.cuh): their places in the row,
// its words, and the exchange of what each of them found.
#pragma once

#include "runtime/cuda/device_memory.cuh"
#include "runtime/cuda/tokens/cluster.cuh"
#include "runtime/cuda/tokens/token_math.h"
#include "runtime/cuda/tokens/token_plan.h"

namespace abq::runtime::cuda {

struct RowShape {
  int columns;
  int tiles;
  int blocks;   // of a cluster
  bool vector;  // 16-byte accesses: bases and strides allow them, and so do the columns
};

// Where a warp stands.
struct RowPlace {
  int token;
  int lane;
  int warp;   // of all warps of the token
  int warps;  // of all its blocks
  int rank;   // of the block in its cluster
  bool clustered;
};

// What all warps of a token tell each other: one entry a tile or, for rows that are not held, a
// warp.
struct alignas(16) RowExchange {
  float squares[kMaxHeldTiles];
  uint32_t high[kMaxHeldTiles];  // bits of the largest value; floats >= 0 order as their bits do
  uint32_t low[kMaxHeldTiles];   // of the largest of the values negated
  uint32_t sums[kMaxCluster * kMaxRowWarps];  // of the codes of a warp, in block 0
  ByteCounter statistics;                     // of the first three, in a cluster
  ByteCounter counted_sums;
};

struct RowStatistics {
  float high;       // max(0, values)
  float minus_low;  // max(0, -values)
  float squares;
};

// Four neighbours, 0 beyond the row. kVector: known to be vectors when compiling.
template <bool kVector = false>
__device__ __forceinline__ float4 load_words(const float* row, int column, const RowShape& shape) {
  float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (kVector || shape.vector) {
    if (column < shape.columns) v = *reinterpret_cast<const float4*>(row + column);
  } else {
    if (column < shape.columns) v.x = row[column];
    if (column + 1 < shape.columns) v.y = row[column + 1];
    if (column + 2 < shape.columns) v.z = row[column + 2];
    if (column + 3 < shape.columns) v.w = row[column + 3];
  }
  return v;
}

template <bool kVector = false>
__device__ __forceinline__ void store_words(float* row, int column, const float* v,
                                            const RowShape& shape) {
  if (kVector || shape.vector) {
    if (column < shape.columns)
      *reinterpret_cast<float4*>(row + column) = make_float4(v[0], v[1], v[2], v[3]);
  } else {
#pragma unroll
    for (int b = 0; b < 4; ++b)
      if (column + b < shape.columns) row[column + b] = v[b];
  }
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    v += __shfl_xor_sync(kAllLanes, v, distance);
  return v;
}

__device__ __forceinline__ void widen(const float (&v)[kLaneValues], float& high,
                                      float& minus_low) {
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) {
    high = fmaxf(high, v[i]);  // skips NaN
    minus_low = fmaxf(minus_low, -v[i]);
  }
}

// Entries beyond the used ones of the last 32 count as 0; counters start. Ends with a barrier that
// a block alone does without: its next one comes before anything is read.
template <bool kSquares>
__device__ __forceinline__ void prepare_exchange(RowExchange& exchange, int used,
                                                 const RowPlace& place) {
  const int end = divide_up(used, kLanes) * kLanes;
#pragma unroll 1
  for (int slot = used + static_cast<int>(threadIdx.x); slot < end;
       slot += static_cast<int>(blockDim.x)) {
    exchange.squares[slot] = 0.0f;
    exchange.high[slot] = 0;
    exchange.low[slot] = 0;
  }
  if (!place.clustered) return;
  if (threadIdx.x == 0) {
    exchange.statistics.expect(static_cast<uint32_t>(used) * (kSquares ? 12u : 8u));
    exchange.counted_sums.expect(static_cast<uint32_t>(place.warps) * 4u);
  }
  start_cluster();
}

// Tells entry `slot` of every block of the cluster, if `used`. After agree(), collect() may read
// it.
template <bool kSquares>
__device__ __forceinline__ void publish(RowExchange& exchange, int slot, bool used, float high,
                                        float minus_low, float squares, const RowShape& shape,
                                        const RowPlace& place) {
  // A zero may have come out negative: its bits would be the largest.
  const uint32_t top = __reduce_max_sync(kAllLanes, __float_as_uint(fabsf(high)));
  const uint32_t bottom = __reduce_max_sync(kAllLanes, __float_as_uint(fabsf(minus_low)));
  if constexpr (kSquares) squares = warp_sum(squares);
  if (!used || place.lane >= shape.blocks) return;
  if (place.clustered) {
    const uint32_t counter = in_block(&exchange.statistics, place.lane);
    store_counted(in_block(&exchange.high[slot], place.lane), top, counter);
    store_counted(in_block(&exchange.low[slot], place.lane), bottom, counter);
    if constexpr (kSquares) {
      store_counted(in_block(&exchange.squares[slot], place.lane), __float_as_uint(squares),
                    counter);
    }
  } else {
    exchange.high[slot] = top;
    exchange.low[slot] = bottom;
    if constexpr (kSquares) exchange.squares[slot] = squares;
  }
}

__device__ __forceinline__ void agree(RowExchange& exchange, const RowPlace& place) {
  if (place.clustered) {
    exchange.statistics.wait();
  } else {
    __syncthreads();
  }
}

// The sum of `own` over all threads of the token, in thread 0 of block 0.
__device__ __forceinline__ uint32_t sum_of_codes(RowExchange& exchange, uint32_t own,
                                                 const RowPlace& place) {
  const uint32_t sum = __reduce_add_sync(kAllLanes, own);
  if (place.clustered) {
    if (place.lane == 0) {
      store_counted(in_block(&exchange.sums[place.warp], 0), sum,
                    in_block(&exchange.counted_sums, 0));
    }
    if (place.warp > 0) return 0;
    exchange.counted_sums.wait();
  } else {
    if (place.lane == 0) exchange.sums[place.warp] = sum;
    __syncthreads();
    if (place.warp > 0) return 0;
  }
  uint32_t all = 0;
#pragma unroll 1
  for (int warp = place.lane; warp < place.warps; warp += kLanes)
    all += exchange.sums[warp];
  return __reduce_add_sync(kAllLanes, all);
}

template <bool kSquares>
__device__ __forceinline__ RowStatistics collect(const RowExchange& exchange, int used, int lane) {
  uint32_t high = 0;
  uint32_t low = 0;
  float squares = 0.0f;
#pragma unroll 1
  for (int slot = lane; slot < used; slot += kLanes) {
    high = max(high, exchange.high[slot]);
    low = max(low, exchange.low[slot]);
    if constexpr (kSquares) squares += exchange.squares[slot];
  }
  if constexpr (kSquares) {
    constexpr int kFew = 16;
    if (used <= kFew) {  // all at once in every lane: shorter than five shuffles
      float4 four = *reinterpret_cast<const float4*>(exchange.squares);
#pragma unroll
      for (int slot = 4; slot < kFew; slot += 4) {
        const float4 next = *reinterpret_cast<const float4*>(exchange.squares + slot);
        four = make_float4(four.x + next.x, four.y + next.y, four.z + next.z, four.w + next.w);
      }
      squares = (four.x + four.y) + (four.z + four.w);
    } else {
      squares = warp_sum(squares);
    }
  }
  return {__uint_as_float(__reduce_max_sync(kAllLanes, high)),
          __uint_as_float(__reduce_max_sync(kAllLanes, low)), squares};
}

__device__ __forceinline__ void scale_values(float (&v)[kLaneValues], float factor) {
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i)
    v[i] = compute::cuda::multiply_rn(v[i], factor);
}

}  // namespace abq::runtime::cuda
