// The kernel of everything that looks at a token as a whole: a source of values, reduced over the
// row, then a sink that uses the values and what the reduction found.
//
// The warps of a token, over one block or a cluster, take its tiles in turn: warp w the tiles w,
// w + warps, ... Values stay in registers between the two uses (kHeld tiles a warp), or are read
// again (kHeld = 0).
//
//   source.constants(tile's first column, lane)   before the kernel ahead has finished
//   source.load(...), source.values(...)          8 values of a lane (token_math.h), 0 beyond the
//   row
//   -- statistics: largest, smallest, sum of squares: one exchange between all warps
//   sink.begin(...), sink.tile(...), sink.end(...)
//
// A source with kSquares also scales its values by source.factor(sum of squares).
#pragma once

#include "runtime/cuda/tokens/cluster.cuh"
#include "runtime/cuda/tokens/token_math.h"
#include "runtime/cuda/tokens/token_plan.h"

namespace abq::runtime::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

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

// What all warps of a token tell each other: one entry a tile (kHeld > 0) or a warp.
struct RowExchange {
  float squares[kMaxHeldTiles];
  uint32_t high[kMaxHeldTiles];  // bits of the largest value; floats >= 0 order as their bits do
  uint32_t low[kMaxHeldTiles];   // of the largest of the values negated
  uint32_t sum;                  // of codes, in block 0 of the cluster
};

struct RowStatistics {
  float high;       // max(0, values)
  float minus_low;  // max(0, -values)
  float squares;
};

__device__ __forceinline__ float4 load_words(const float* row, int column, const RowShape& shape) {
  float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (shape.vector) {
    if (column < shape.columns) v = *reinterpret_cast<const float4*>(row + column);
    return v;
  }
  if (column < shape.columns) v.x = row[column];
  if (column + 1 < shape.columns) v.y = row[column + 1];
  if (column + 2 < shape.columns) v.z = row[column + 2];
  if (column + 3 < shape.columns) v.w = row[column + 3];
  return v;
}

__device__ __forceinline__ void store_words(float* row, int column, const float* v,
                                            const RowShape& shape) {
  if (shape.vector) {
    if (column < shape.columns)
      *reinterpret_cast<float4*>(row + column) = make_float4(v[0], v[1], v[2], v[3]);
    return;
  }
#pragma unroll
  for (int b = 0; b < 4; ++b)
    if (column + b < shape.columns) row[column + b] = v[b];
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    v += __shfl_xor_sync(kAllLanes, v, distance);
  return v;
}

// --- Statistics

__device__ __forceinline__ void widen(const float (&v)[kLaneValues], float& high,
                                      float& minus_low) {
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) {
    high = fmaxf(high, v[i]);  // skips NaN
    minus_low = fmaxf(minus_low, -v[i]);
  }
}

// Tells entry `slot` of every block of the cluster; after the barrier that the caller owes,
// collect() may read it.
template <bool kSquares>
__device__ __forceinline__ void publish(RowExchange& exchange, int slot, float high,
                                        float minus_low, float squares, const RowShape& shape,
                                        const RowPlace& place) {
  // A zero may have come out negative: its bits would be the largest.
  const uint32_t top = __reduce_max_sync(kAllLanes, __float_as_uint(fabsf(high)));
  const uint32_t bottom = __reduce_max_sync(kAllLanes, __float_as_uint(fabsf(minus_low)));
  if constexpr (kSquares) squares = warp_sum(squares);
  if (place.lane >= shape.blocks) return;
  store_shared(shared_address(&exchange.high[slot], place.lane, place.clustered), top);
  store_shared(shared_address(&exchange.low[slot], place.lane, place.clustered), bottom);
  if constexpr (kSquares) {
    store_shared(shared_address(&exchange.squares[slot], place.lane, place.clustered),
                 __float_as_uint(squares));
  }
}

// Entries beyond the used ones of the last 32 count as 0.
__device__ __forceinline__ void clear_rest(RowExchange& exchange, int used) {
  const int end = divide_up(used, kLanes) * kLanes;
  for (int slot = used + static_cast<int>(threadIdx.x); slot < end;
       slot += static_cast<int>(blockDim.x)) {
    exchange.squares[slot] = 0.0f;
    exchange.high[slot] = 0;
    exchange.low[slot] = 0;
  }
  if (threadIdx.x == 0) exchange.sum = 0;
}

template <bool kSquares>
__device__ __forceinline__ RowStatistics collect(const RowExchange& exchange, int used, int lane) {
  uint32_t high = 0;
  uint32_t low = 0;
  float squares = 0.0f;
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

// --- The kernel

template <class Source, class Sink, int kHeld>
__global__ void __launch_bounds__(kMaxWarps* kLanes)
    row_kernel(const Source source, const Sink sink, const RowShape shape) {
  __shared__ alignas(16) RowExchange exchange;
  constexpr bool kSquares = Source::kSquares;
  const int block_warps = static_cast<int>(blockDim.x) / kLanes;
  RowPlace place;
  place.clustered = shape.blocks > 1;
  place.token = static_cast<int>(blockIdx.x) / shape.blocks;
  place.rank = static_cast<int>(blockIdx.x) - place.token * shape.blocks;
  place.lane = static_cast<int>(threadIdx.x) % kLanes;
  place.warp = place.rank * block_warps + static_cast<int>(threadIdx.x) / kLanes;
  place.warps = shape.blocks * block_warps;
  const int used = kHeld > 0 ? shape.tiles : block_warps;

  constexpr int kBuffers = kHeld > 0 ? kHeld : 1;
  typename Source::Constants constants[kBuffers];
  if constexpr (kHeld > 0) {
#pragma unroll
    for (int n = 0; n < kHeld; ++n)
      constants[n] = source.constants(place.warp + n * place.warps, place.lane, shape);
  }
  clear_rest(exchange, used);
  cluster_arrive(place.clustered);
  release_next();
  wait_for_previous();

  float values[kBuffers][kLaneValues];
  if constexpr (kHeld > 0) {
    typename Source::Loaded loaded[kHeld];
    float squares[kHeld] = {};
#pragma unroll
    for (int n = 0; n < kHeld; ++n)
      loaded[n] = source.load(place.token, place.warp + n * place.warps, place.lane, shape);
#pragma unroll
    for (int n = 0; n < kHeld; ++n)
      source.values(loaded[n], constants[n], values[n], squares[n]);
    // All blocks of the cluster have started: their shared memory may be written.
    if (place.clustered) cluster_wait(true);
#pragma unroll
    for (int n = 0; n < kHeld; ++n) {
      const int tile = place.warp + n * place.warps;
      if (tile >= shape.tiles) break;
      float high = 0.0f;
      float minus_low = 0.0f;
      widen(values[n], high, minus_low);
      publish<kSquares>(exchange, tile, high, minus_low, squares[n], shape, place);
    }
  } else {
    float high = 0.0f;
    float minus_low = 0.0f;
    float squares = 0.0f;
    for (int tile = place.warp; tile < shape.tiles; tile += place.warps) {
      source.values(source.load(place.token, tile, place.lane, shape),
                    source.constants(tile, place.lane, shape), values[0], squares);
      widen(values[0], high, minus_low);
    }
    publish<kSquares>(exchange, place.warp, high, minus_low, squares, shape, place);
  }
  cluster_arrive(place.clustered);
  cluster_wait(place.clustered);

  const RowStatistics statistics = collect<kSquares>(exchange, used, place.lane);
  const float factor = source.factor(statistics.squares);
  typename Sink::State state = sink.begin(statistics, factor, place);
  const auto finish = [&](float(&v)[kLaneValues], int tile) {
    if constexpr (kSquares) {
#pragma unroll
      for (int i = 0; i < kLaneValues; ++i)
        v[i] = compute::cuda::multiply_rn(v[i], factor);
    }
    sink.tile(state, v, tile, shape, place);
  };
  if constexpr (kHeld > 0) {
#pragma unroll
    for (int n = 0; n < kHeld; ++n) {
      const int tile = place.warp + n * place.warps;
      if (tile < shape.tiles) finish(values[n], tile);
    }
  } else {
    float ignored = 0.0f;
    for (int tile = place.warp; tile < shape.tiles; tile += place.warps) {
      source.values(source.load(place.token, tile, place.lane, shape),
                    source.constants(tile, place.lane, shape), values[0], ignored);
      finish(values[0], tile);
    }
  }
  sink.end(state, exchange, place);
}

// `plan` is plan_tokens()'s, or one to be timed.
template <class Source, class Sink>
cudaError_t launch_rows(const Source& source, const Sink& sink, int m, int columns, bool vector,
                        const TokenPlan& plan, cudaStream_t stream) {
  const RowShape shape{columns, divide_up(columns, kTileDepth), plan.blocks, vector};
  const LaunchShape launch_shape{dim3(static_cast<unsigned>(m * plan.blocks)),
                                 dim3(static_cast<unsigned>(plan.warps * kLanes))};
  auto* const kernel = plan.held == 1   ? row_kernel<Source, Sink, 1>
                       : plan.held == 2 ? row_kernel<Source, Sink, 2>
                                        : row_kernel<Source, Sink, 0>;
  return launch_clusters(kernel, launch_shape, plan.blocks, stream, source, sink, shape);
}

}  // namespace abq::runtime::cuda
