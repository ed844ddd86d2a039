// The kernels of everything that looks at a token as a whole: a source of values, reduced over the
// row, then a sink that uses the values and what the reduction found.
//
// The warps of a token, over one block or a cluster, take its tiles in turn: warp w the tiles w,
// w + warps, ... Values stay in registers between the two uses (kHeld tiles a warp), or are made
// again.
//
//   source.constants(tile's first column, lane)   before the kernel ahead has finished
//   source.load(...), source.values(...)          8 values of a lane (token_math.h), 0 beyond the
//   row
//   -- statistics: largest, smallest, sum of squares: one exchange between all warps
//   sink.begin(...), sink.tile(...), sink.end(...)
//
// All warps take the same way through the code, those beyond the last tile without storing: a
// warp's shuffles need no care for lanes that went elsewhere, and the code stays short, which
// counts when a launch lasts a microsecond.
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

// --- Statistics

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

// --- The kernels

__device__ __forceinline__ RowPlace row_place(const RowShape& shape) {
  const int block_warps = static_cast<int>(blockDim.x) / kLanes;
  RowPlace place;
  place.clustered = shape.blocks > 1;
  place.token = static_cast<int>(blockIdx.x) >> (31 - __clz(shape.blocks));
  place.rank = static_cast<int>(blockIdx.x) & (shape.blocks - 1);
  place.lane = static_cast<int>(threadIdx.x) % kLanes;
  place.warp = place.rank * block_warps + static_cast<int>(threadIdx.x) / kLanes;
  place.warps = shape.blocks * block_warps;
  return place;
}

// Rows held in registers, of any source and sink.
template <class Source, class Sink, int kHeld>
__global__ void __launch_bounds__(kMaxRowWarps* kLanes)
    held_row_kernel(const Source source, const Sink sink, const RowShape shape) {
  __shared__ RowExchange exchange;
  constexpr bool kSquares = Source::kSquares;
  const RowPlace place = row_place(shape);
  typename Source::Constants constants[kHeld];
#pragma unroll
  for (int n = 0; n < kHeld; ++n)
    constants[n] = source.template constants<true>(place.warp + n * place.warps, place.lane, shape);
  prepare_exchange<kSquares>(exchange, shape.tiles, place);
  release_next();
  wait_for_previous();

  typename Source::Loaded loaded[kHeld];
#pragma unroll
  for (int n = 0; n < kHeld; ++n)
    loaded[n] =
        source.template load<true>(place.token, place.warp + n * place.warps, place.lane, shape);
  float values[kHeld][kLaneValues];
  float squares[kHeld] = {};
#pragma unroll
  for (int n = 0; n < kHeld; ++n)
    source.values(loaded[n], constants[n], values[n], squares[n]);
#pragma unroll
  for (int n = 0; n < kHeld; ++n) {
    const int tile = place.warp + n * place.warps;
    float high = 0.0f;
    float minus_low = 0.0f;
    widen(values[n], high, minus_low);
    publish<kSquares>(exchange, tile, tile < shape.tiles, high, minus_low, squares[n], shape,
                      place);
  }
  agree(exchange, place);

  const RowStatistics statistics = collect<kSquares>(exchange, shape.tiles, place.lane);
  const float factor = source.factor(statistics.squares);
  typename Sink::State state = sink.begin(statistics, factor, place);
#pragma unroll
  for (int n = 0; n < kHeld; ++n) {
    if constexpr (kSquares) scale_values(values[n], factor);
    sink.template tile<true>(state, values[n], place.warp + n * place.warps, shape, place);
  }
  sink.end(state, exchange, place);
}

// Rows of any length and alignment: values are made anew for each use. One block a token.
template <class Source, class Sink>
__global__ void __launch_bounds__(kMaxRowWarps* kLanes)
    any_row_kernel(const Source source, const Sink sink, const RowShape shape) {
  __shared__ RowExchange exchange;
  constexpr bool kSquares = Source::kSquares;
  const RowPlace place = row_place(shape);
  prepare_exchange<kSquares>(exchange, place.warps, place);
  release_next();
  wait_for_previous();

  float values[kLaneValues];
  float high = 0.0f;
  float minus_low = 0.0f;
  float squares = 0.0f;
#pragma unroll 1
  for (int first = 0; first < shape.tiles; first += place.warps) {
    const int tile = first + place.warp;
    source.values(source.template load<false>(place.token, tile, place.lane, shape),
                  source.template constants<false>(tile, place.lane, shape), values, squares);
    widen(values, high, minus_low);
  }
  publish<kSquares>(exchange, place.warp, true, high, minus_low, squares, shape, place);
  agree(exchange, place);

  const RowStatistics statistics = collect<kSquares>(exchange, place.warps, place.lane);
  const float factor = source.factor(statistics.squares);
  typename Sink::State state = sink.begin(statistics, factor, place);
#pragma unroll 1
  for (int first = 0; first < shape.tiles; first += place.warps) {
    const int tile = first + place.warp;
    source.values(source.template load<false>(place.token, tile, place.lane, shape),
                  source.template constants<false>(tile, place.lane, shape), values, squares);
    if constexpr (kSquares) scale_values(values, factor);
    sink.template tile<false>(state, values, tile, shape, place);
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
  auto* const kernel = plan.held == 1   ? held_row_kernel<Source, Sink, 1>
                       : plan.held == 2 ? held_row_kernel<Source, Sink, 2>
                                        : any_row_kernel<Source, Sink>;
  return launch_clusters(kernel, launch_shape, plan.blocks, stream, source, sink, shape);
}

}  // namespace abq::runtime::cuda
