// Decoding, second launch: adds the parts of each sequence in their order, and quantizes the result
// as the next linear's input. The blocks of a cluster share one token and exchange its range.
#pragma once

#include "runtime/cuda/attention/attention_arguments.h"
#include "runtime/cuda/attention/cache_layout.h"
#include "runtime/cuda/attention/token_tiles.cuh"
#include "runtime/cuda/tokens/token_plan.h"

namespace abq::runtime::cuda {

inline constexpr int kCombineThreads = 256;

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

inline constexpr int kCombineWarps = kCombineThreads / 32;
inline constexpr int kCombineColumns = 2;  // neighbours that a thread adds up
inline constexpr int kCombineStep = kCombineThreads * kCombineColumns;

// What the warps of a cluster tell each other: warp w of block r at r * kCombineWarps + w.
struct alignas(16) CombineShared {
  uint64_t ranges[kMaxCluster * kCombineWarps];  // bits of high, above them those of -low
  uint32_t sums[kMaxCluster * kCombineWarps];    // of codes, in block 0
  ByteCounter ranges_here;
  ByteCounter sums_here;
};

// Two neighbouring columns of a head in its first part.
struct PartColumns {
  const float2* sums;   // of the parts
  const float* values;  // those of the next part are `padded` floats on
};
__device__ __forceinline__ PartColumns part_columns(const CombineArguments& args, int token,
                                                    int column) {
  // Beyond the last column there are addresses, not values.
  column = min(column, args.heads * args.head_dim - kCombineColumns);
  const int head = column / args.head_dim;
  const int d = column - head * args.head_dim;
  const int64_t at = (static_cast<int64_t>(token) * args.heads + head) * args.part_stride;
  return {args.part_sums + at, args.parts + at * args.padded + d};
}

__device__ __forceinline__ float2 add_parts(const PartColumns& at, int parts, int padded) {
  constexpr int kBatch = 8;  // loads in flight
  float top = -INFINITY;
  float sum = 0.0f;
  float2 total = make_float2(0.0f, 0.0f);
  for (int first = 0; first < parts; first += kBatch) {
    float2 sums[kBatch];
    float2 values[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      sums[i] = make_float2(-INFINITY, 0.0f);
      values[i] = make_float2(0.0f, 0.0f);
      if (first + i >= parts) continue;
      sums[i] = __ldcg(at.sums + first + i);
      values[i] = __ldcg(reinterpret_cast<const float2*>(at.values + (first + i) * padded));
    }
    float new_top = top;
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
      new_top = fmaxf(new_top, sums[i].x);
    const float old = power_of_two(top - new_top);
    sum *= old;
    total.x *= old;
    total.y *= old;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float factor = power_of_two(sums[i].x - new_top);
      sum += factor * sums[i].y;
      total.x += factor * values[i].x;
      total.y += factor * values[i].y;
    }
    top = new_top;
  }
  const float inverse = 1.0f / sum;
  return make_float2(total.x * inverse, total.y * inverse);
}

// The grid of the whole token, whose range lies scattered over the warps of a cluster. Also a
// barrier of the block.
__device__ __forceinline__ TokenGrid cluster_grid(float high, float minus_low, float max_code,
                                                  CombineShared& shared, int rank, int ranks) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint64_t own_high = __reduce_max_sync(kAllLanes, __float_as_uint(high));
  const uint64_t own_low = __reduce_max_sync(kAllLanes, __float_as_uint(minus_low));
  uint64_t* const entry = &shared.ranges[rank * kCombineWarps + warp];
  if (ranks > 1) {
    if (lane < ranks) {
      store_counted(in_block(entry, lane), own_high | own_low << 32,
                    in_block(&shared.ranges_here, lane));
    }
  } else if (lane == 0) {
    *entry = own_high | own_low << 32;
  }
  __syncthreads();
  if (ranks > 1) shared.ranges_here.wait();
  uint32_t highs = 0;
  uint32_t lows = 0;
#pragma unroll
  for (int n = 0; n < kMaxCluster * kCombineWarps / 32; ++n) {
    const int i = lane + 32 * n;
    const uint64_t range = i < ranks * kCombineWarps ? shared.ranges[i] : 0;
    highs = max(highs, static_cast<uint32_t>(range));
    lows = max(lows, static_cast<uint32_t>(range >> 32));
  }
  return token_grid(__uint_as_float(__reduce_max_sync(kAllLanes, highs)),
                    __uint_as_float(__reduce_max_sync(kAllLanes, lows)), max_code);
}

// The sum over the threads of a cluster, in the first warp of block 0.
__device__ __forceinline__ uint32_t cluster_sum(uint32_t own, CombineShared& shared, int rank,
                                                int ranks) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  own = __reduce_add_sync(kAllLanes, own);
  uint32_t* const entry = &shared.sums[rank * kCombineWarps + warp];
  if (ranks > 1) {
    if (lane == 0) store_counted(in_block(entry, 0), own, in_block(&shared.sums_here, 0));
  } else {
    if (lane == 0) *entry = own;
    __syncthreads();
  }
  if (rank > 0 || warp > 0) return 0;
  if (ranks > 1) shared.sums_here.wait();
  uint32_t total = 0;
#pragma unroll
  for (int n = 0; n < kMaxCluster * kCombineWarps / 32; ++n) {
    const int i = lane + 32 * n;
    total += i < ranks * kCombineWarps ? shared.sums[i] : 0u;
  }
  return __reduce_add_sync(kAllLanes, total);
}

// Grid (blocks of a token = one cluster, tokens).
__global__ void __launch_bounds__(kCombineThreads) decode_combine(const CombineArguments args) {
  CombineShared& shared = *reinterpret_cast<CombineShared*>(dynamic_shared());
  float* const values = reinterpret_cast<float*>(dynamic_shared() + sizeof(CombineShared));
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = warp_of_block();
  const int lane = thread % 32;
  const int rank = static_cast<int>(blockIdx.x);
  const int ranks = static_cast<int>(gridDim.x);
  const int token = static_cast<int>(blockIdx.y);
  const int columns = args.heads * args.head_dim;
  const int block_columns = args.block_tiles * kTileDepth;
  int column = rank * block_columns + thread * kCombineColumns;

  release_next();
  if (ranks > 1) {
    if (thread == 0) {
      const uint32_t warps = static_cast<uint32_t>(ranks * kCombineWarps);
      shared.ranges_here.expect(warps * 8);
      shared.sums_here.expect(warps * 4);
    }
    start_cluster();
  }
  // As in decode_split: what depends on no kernel of this step comes before the wait.
  const int64_t position = static_cast<int64_t>(load_now(&args.sequences[token].position));
  const int parts = min(plan_splits(position, args.window, args.kv_heads).parts, args.part_stride);
  PartColumns at = part_columns(args, token, column);
  prefetch(at.sums + parts - 1);
  prefetch(at.values + (parts - 1) * args.padded);
  wait_for_previous();

  float high = 0.0f;
  float minus_low = 0.0f;
  for (int i = thread * kCombineColumns; i < block_columns; i += kCombineStep) {
    float2 result = make_float2(0.0f, 0.0f);
    if (column < columns) {
      result = add_parts(at, parts, args.padded);
      if (args.y != nullptr) {
        float* const y = args.y + token * args.y_stride + column;
        y[0] = result.x;
        y[1] = result.y;
      }
    }
    *reinterpret_cast<float2*>(values + i) = result;
    // NaN does not move the range; a zero's sign, which would, is taken off.
    high = fmaxf(high, fmaxf(result.x, result.y));
    minus_low = fmaxf(minus_low, fmaxf(-result.x, -result.y));
    column += kCombineStep;
    at = part_columns(args, token, column);
  }
  if (!args.quantized) return;

  const TokenTiles& tokens = args.tokens;
  const TokenGrid grid =
      cluster_grid(fabsf(high), fabsf(minus_low), static_cast<float>((1 << tokens.bits) - 1),
                   shared, rank, ranks);
  uint32_t sum = 0;
  for (int i = warp; i < args.block_tiles; i += kCombineWarps) {
    const int tile = rank * args.block_tiles + i;
    if (tile < tiles_of(tokens.k, kTileDepth))
      sum += write_token_tile(tokens, token, tile, values + i * kTileDepth, grid, lane);
  }
  if (rank == 0 && thread == 0) {
    tokens.scales[token] = grid.scale;
    tokens.zeros[token] = grid.zero;
  }
  if (tokens.sums == nullptr) return;
  const uint32_t total = cluster_sum(sum, shared, rank, ranks);
  if (rank == 0 && thread == 0) tokens.sums[token] = static_cast<int32_t>(total);
}

}  // namespace abq::runtime::cuda
