// The Hadamard transform of neighbouring segments of rows, alone and with quantization.
#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/tokens/hadamard_block.cuh"
#include "runtime/cuda/tokens/row_sinks.cuh"
#include "runtime/cuda/tokens/token_launchers.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kMaxThreads = 512;

// Grid (blocks, slices).
__global__ void __launch_bounds__(kMaxThreads)
    hadamard_kernel(const HadamardRows rows, const HadamardMatrix matrix, const HadamardPlan plan) {
  extern __shared__ __align__(16) unsigned char memory[];
  HadamardBlock block(matrix, plan, static_cast<int>(threadIdx.x), rows.vector, memory);
  const int slice = static_cast<int>(blockIdx.y);
  int unit = static_cast<int>(blockIdx.x);
  block.take_slice(rows, plan, slice, unit);
  block.stage_signs();
  release_next();
  wait_for_previous();
  const int units = rows.m * plan.units;
#pragma unroll 1
  for (; unit < units; unit += plan.blocks) {
    block.take_slice(rows, plan, slice, unit);
    transform_unit(block, [] { __syncthreads(); });
    __syncthreads();
  }
}

// The transformed row where it lies in shared memory, read as the row kernel reads its sources.
struct TransformedSource {
  const float* values;
  HadamardPadding at;
  int start;  // column of values[at(0)]
  float scale;

  __device__ void values_of(int tile, int lane, const RowShape& shape,
                            float (&v)[kLaneValues]) const {
#pragma unroll
    for (int i = 0; i < kLaneWords; ++i) {
      const int column = tile * kTileDepth + lane_column(i, lane);
      float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (column < shape.columns)
        four = *reinterpret_cast<const float4*>(values + at(column - start));
      const float of_four[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        const bool there = column + b < shape.columns;
        v[4 * i + b] = there ? compute::cuda::multiply_rn(of_four[b], scale) : 0.0f;
      }
    }
  }
};

// Grid: clusters of plan.blocks, one a token. kColumns: what a thread mixes, 0 for order 1.
template <int kColumns>
__global__ void __launch_bounds__(kMaxHadamardRowThreads)
    hadamard_quantize_kernel(const HadamardRows rows, const HadamardMatrix matrix,
                             const HadamardRowPlan plan, const QuantizeSink sink,
                             const RowShape shape) {
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ RowExchange exchange;
  const RowPlace place = row_place(shape);
  HadamardBlock block(matrix, plan, static_cast<int>(threadIdx.x), rows.vector, memory);
  const int start = block.take_tiles(rows, plan, place.token, place.rank);
  if constexpr (kColumns > 0) {
    block.stage_packed();
    commit_copies();
  }
  prepare_exchange<false>(exchange, shape.tiles, place);
  release_next();
  wait_for_previous();

  if constexpr (kColumns > 0) wait_copies<0>();  // rounds end with a barrier
  transform_rounds(block, [] { __syncthreads(); });
  TransformedSource source{block.values, block.at, start, matrix.scale};
  if constexpr (kColumns > 0) {
    float sums[kHadamardRows][kColumns];
    block.mix_own(sums);
    __syncthreads();
    block.write_own(sums);
    __syncthreads();
    source = {block.values, {30}, start + block.share.first, 1.0f};
  }

  const int step = static_cast<int>(blockDim.x) / kLanes;
  const int first = place.rank * plan.tiles + static_cast<int>(threadIdx.x) / kLanes;
  const int end = min((place.rank + 1) * plan.tiles, shape.tiles);
  float values[kLaneValues];
#pragma unroll 1
  for (int tile = first; tile < end; tile += step) {
    source.values_of(tile, place.lane, shape, values);
    float high = 0.0f;
    float minus_low = 0.0f;
    widen(values, high, minus_low);
    publish<false>(exchange, tile, true, high, minus_low, 0.0f, shape, place);
  }
  agree(exchange, place);

  const RowStatistics statistics = collect<false>(exchange, shape.tiles, place.lane);
  QuantizeSink::State state = sink.begin(statistics, 1.0f, place);
#pragma unroll 1
  for (int tile = first; tile < end; tile += step) {
    source.values_of(tile, place.lane, shape, values);
    sink.tile<false>(state, values, tile, shape, place);
  }
  sink.end(state, exchange, place);
}

// Shared memory to ask for. Where each block can have a multiprocessor of its own it claims more
// than half of one: blocks that start while the kernel ahead still runs would else share some
// multiprocessors and leave others idle.
unsigned claimed_bytes(unsigned needed, int blocks) {
  constexpr int kMultiprocessors = 128;  // about as many as devices with overlapping launches have
  constexpr unsigned kMoreThanHalf = 116 * 1024;
  const bool spread = launches_overlap() && blocks <= kMultiprocessors;
  return spread && needed < kMoreThanHalf ? kMoreThanHalf : needed;
}

}  // namespace

cudaError_t launch_hadamard(RowsIn x, const HadamardMatrix& matrix, RowsOut y, int m, int columns,
                            bool vector, const HadamardPlan& plan, cudaStream_t stream) {
  const unsigned shared_bytes = claimed_bytes(plan.shared_bytes, plan.blocks * plan.slices);
  if (const cudaError_t error = allow_shared(hadamard_kernel, shared_bytes); error != cudaSuccess)
    return error;
  const HadamardRows rows{x.data, x.stride, y.data, y.stride, m, columns, vector};
  const LaunchShape shape{
      dim3(static_cast<unsigned>(plan.blocks), static_cast<unsigned>(plan.slices)),
      dim3(static_cast<unsigned>(plan.threads)), shared_bytes};
  return launch(hadamard_kernel, shape, stream, rows, matrix, plan);
}

cudaError_t launch_hadamard_quantize(RowsIn x, const HadamardMatrix& matrix, RowsOut y,
                                     const TokenTiles& tokens, bool vector,
                                     const HadamardRowPlan& plan, cudaStream_t stream) {
  auto* const kernel = matrix.order == 1   ? hadamard_quantize_kernel<0>
                       : plan.columns == 4 ? hadamard_quantize_kernel<4>
                                           : hadamard_quantize_kernel<8>;
  const unsigned shared_bytes = claimed_bytes(plan.shared_bytes, tokens.m * plan.blocks);
  if (const cudaError_t error = allow_shared(kernel, shared_bytes); error != cudaSuccess)
    return error;
  const HadamardRows rows{x.data, x.stride, nullptr, 0, tokens.m, tokens.k, vector};
  const QuantizeSink sink{tokens, {y.data, y.stride}, static_cast<float>((1 << tokens.bits) - 1)};
  const RowShape shape{tokens.k, divide_up(tokens.k, kTileDepth), plan.blocks, vector};
  const LaunchShape launch_shape{dim3(static_cast<unsigned>(tokens.m * plan.blocks)),
                                 dim3(static_cast<unsigned>(plan.threads)), shared_bytes};
  return launch_clusters(kernel, launch_shape, plan.blocks, stream, rows, matrix, plan, sink,
                         shape);
}

}  // namespace abq::runtime::cuda
