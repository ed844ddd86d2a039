// Decoding, second launch: adds the parts of each sequence in their order, and quantizes the result
// as the next linear's input. The blocks of a cluster share one token and exchange its range.
#pragma once

#include "runtime/cuda/attention/attention_arguments.h"
#include "runtime/cuda/attention/token_tiles.cuh"

namespace abq::runtime::cuda {

inline constexpr int kCombineThreads = 256;
inline constexpr int kMaxCluster = 8;

struct CombineArguments {
  const SequenceState* sequences;
  const float* parts;       // [m][heads][part_stride][padded]
  const float2* part_sums;  // [m][heads][part_stride]: top, sum
  int heads;
  int kv_heads;
  int head_dim;
  int padded;
  int part_stride;
  int64_t window;
  float* y;  // may be null
  int64_t y_stride;
  bool quantized;
  TokenTiles tokens;
  int block_tiles;  // tiles of 256 columns that a block takes
};

struct CombineShared {
  float2 warp_ranges[kCombineThreads / 32];
  uint32_t cluster_ranges[kMaxCluster][2];  // low, high
  uint32_t cluster_sums[kMaxCluster];
  int warp_sums[kCombineThreads / 32];
};

// kColumns neighbours of one head, over all parts.
template <int kColumns>
__device__ __forceinline__ void add_parts(const CombineArguments& args, int parts, int64_t at,
                                          int d, float (&result)[kColumns]) {
  constexpr int kBatch = 8;  // loads in flight
  float top = -INFINITY;
  float sum = 0.0f;
  float total[kColumns] = {};
  for (int first = 0; first < parts; first += kBatch) {
    float2 sums[kBatch];
    float values[kBatch][kColumns];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int64_t part = at + min(first + i, parts - 1);
      sums[i] = __ldcg(args.part_sums + part);
      const float* const from = args.parts + part * args.padded + d;
      if constexpr (kColumns == 4) {
        const float4 v = __ldcg(reinterpret_cast<const float4*>(from));
        values[i][0] = v.x, values[i][1] = v.y, values[i][2] = v.z, values[i][3] = v.w;
      } else {
        const float2 v = __ldcg(reinterpret_cast<const float2*>(from));
        values[i][0] = v.x, values[i][1] = v.y;
      }
    }
    float new_top = top;
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
      new_top = fmaxf(new_top, sums[i].x);
    const float old = power_of_two(top - new_top);
    sum *= old;
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      total[c] *= old;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float factor = first + i < parts ? power_of_two(sums[i].x - new_top) : 0.0f;
      sum += factor * sums[i].y;
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        total[c] += factor * values[i][c];
    }
    top = new_top;
  }
#pragma unroll
  for (int c = 0; c < kColumns; ++c)
    result[c] = total[c] / sum;
}

// Range of the whole token: of this thread's values, the block's, the cluster's.
__device__ __forceinline__ float2 token_range(float low, float high, CombineShared& shared,
                                              int rank, int ranks) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    low = fminf(low, __shfl_xor_sync(kAllLanes, low, step));
    high = fmaxf(high, __shfl_xor_sync(kAllLanes, high, step));
  }
  if (thread % 32 == 0) shared.warp_ranges[thread / 32] = make_float2(low, high);
  __syncwarp();
  cluster_wait();  // for the start of all blocks: their shared memory exists
  __syncthreads();
  if (thread < ranks) {
    for (int w = 0; w < kCombineThreads / 32; ++w) {
      low = fminf(low, shared.warp_ranges[w].x);
      high = fmaxf(high, shared.warp_ranges[w].y);
    }
    cluster_store(&shared.cluster_ranges[rank][0], static_cast<unsigned>(thread),
                  __float_as_uint(low));
    cluster_store(&shared.cluster_ranges[rank][1], static_cast<unsigned>(thread),
                  __float_as_uint(high));
  }
  __syncthreads();  // alone where there are no clusters
  cluster_arrive();
  cluster_wait();
  low = 0.0f;
  high = 0.0f;
  for (int r = 0; r < ranks; ++r) {
    low = fminf(low, __uint_as_float(shared.cluster_ranges[r][0]));
    high = fmaxf(high, __uint_as_float(shared.cluster_ranges[r][1]));
  }
  return make_float2(low, high);
}

// Grid (blocks of a token = one cluster, tokens).
template <int kColumns>
__global__ void __launch_bounds__(kCombineThreads) decode_combine(const CombineArguments args) {
  CombineShared& shared = *reinterpret_cast<CombineShared*>(dynamic_shared());
  float* const values = reinterpret_cast<float*>(dynamic_shared() + sizeof(CombineShared));
  const int thread = static_cast<int>(threadIdx.x);
  const int rank = static_cast<int>(blockIdx.x);
  const int ranks = static_cast<int>(gridDim.x);
  const int token = static_cast<int>(blockIdx.y);
  const int columns = args.heads * args.head_dim;
  const int first_column = rank * args.block_tiles * kTileDepth;

  cluster_arrive();
  release_next();
  wait_for_previous();
  const SplitPlan plan = plan_splits(args.sequences[token].position, args.window, args.kv_heads);
  const int parts = min(plan.parts, args.part_stride);

  float low = 0.0f;
  float high = 0.0f;
  for (int i = thread * kColumns; i < args.block_tiles * kTileDepth;
       i += kCombineThreads * kColumns) {
    const int column = first_column + i;
    float result[kColumns] = {};
    if (column < columns) {
      const int head = column / args.head_dim;
      const int64_t at = (static_cast<int64_t>(token) * args.heads + head) * args.part_stride;
      add_parts(args, parts, at, column % args.head_dim, result);
    }
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      values[i + c] = result[c];
      low = result[c] < low ? result[c] : low;
      high = result[c] > high ? result[c] : high;
      if (args.y != nullptr && column < columns)
        args.y[token * args.y_stride + column + c] = result[c];
    }
  }
  const float2 range = token_range(low, high, shared, rank, ranks);
  if (!args.quantized) return;

  const TokenTiles& tokens = args.tokens;
  const compute::cuda::CodeGrid grid =
      compute::cuda::asymmetric_grid(range.x, range.y, static_cast<float>((1 << tokens.bits) - 1));
  int sum = 0;
  for (int i = thread / 32; i < args.block_tiles; i += kCombineThreads / 32) {
    const int tile = rank * args.block_tiles + i;
    if (tile < tiles_of(tokens.k, kTileDepth))
      sum += write_token_tile(tokens, token, tile, values + i * kTileDepth, grid, thread % 32);
  }
  if (thread % 32 == 0) shared.warp_sums[thread / 32] = sum;
  __syncthreads();
  if (thread == 0) {
    int total = 0;
    for (int w = 0; w < kCombineThreads / 32; ++w)
      total += shared.warp_sums[w];
    cluster_store(&shared.cluster_sums[rank], 0, static_cast<uint32_t>(total));
  }
  __syncwarp();
  cluster_arrive();
  cluster_wait();
  if (rank == 0 && thread == 0) {
    uint32_t total = 0;
    for (int r = 0; r < ranks; ++r)
      total += shared.cluster_sums[r];
    tokens.scales[token] = grid.scale;
    tokens.zeros[token] = static_cast<int32_t>(grid.zero);
    if (tokens.sums != nullptr) tokens.sums[token] = static_cast<int32_t>(total);
  }
}

}  // namespace abq::runtime::cuda
