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

#include "runtime/cuda/tokens/row_statistics.cuh"

namespace abq::runtime::cuda {

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
