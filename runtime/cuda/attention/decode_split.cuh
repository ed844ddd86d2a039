// Decoding, first launch: one block takes one part of one sequence for up to eight query heads of
// one kv head. It rotates and quantizes the queries, and where its part holds the new token, writes
// that to the cache; then each warp runs an online softmax over its own tokens, 16 at a time.
#pragma once

#include "runtime/cuda/attention/decode_prepare.cuh"
#include "runtime/cuda/attention/decode_tile.cuh"

namespace abq::runtime::cuda {

// The warps' sums, added in the order of the warps, to the workspace.
template <int kPadded, int kStored>
__device__ __forceinline__ void write_part(const DecodeArguments& args,
                                           const DecodeShared<kPadded, kStored>& shared,
                                           int64_t first_head, int heads, int part) {
  for (int i = static_cast<int>(threadIdx.x); i < heads * kPadded; i += 32 * kDecodeWarps) {
    const int head = i / kPadded;
    const int d = i % kPadded;
    float top = -INFINITY;
    for (int w = 0; w < kDecodeWarps; ++w)
      top = fmaxf(top, shared.sums[w][head].x);
    float output = 0.0f;
    float sum = 0.0f;
    for (int w = 0; w < kDecodeWarps; ++w) {
      const float2 sums = shared.sums[w][head];
      if (sums.x == -INFINITY) continue;  // a warp without tokens
      const float factor = power_of_two(sums.x - top);
      output += factor * shared.outputs[w][head][d];
      sum += factor * sums.y;
    }
    const int64_t at = (first_head + head) * args.part_stride + part;
    args.parts[at * kPadded + d] = output;
    if (d == 0) args.part_sums[at] = make_float2(top, sum);
  }
}

// Blocks of a multiprocessor: most_splits() counts on three.
template <int kPadded>
constexpr int kDecodeBlocks = kPadded == 64    ? 4
                              : kPadded == 128 ? 3
                                               : 2;

// Grid (parts, kv heads * head tiles, sequences).
template <int kPadded, int kStored>
__global__ void __launch_bounds__(32 * kDecodeWarps, kDecodeBlocks<kPadded>)
    decode_split(const DecodeArguments args) {
  using Shared = DecodeShared<kPadded, kStored>;
  Shared& shared = *reinterpret_cast<Shared*>(dynamic_shared());
  const AttentionLayer& layer = args.layer;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int kv_head = static_cast<int>(blockIdx.y) / args.head_tiles;
  const int head_tile = static_cast<int>(blockIdx.y) % args.head_tiles;
  const int group = layer.heads / layer.kv_heads;
  const int first_head = kv_head * group + head_tile * kDecodeHeads;
  const int heads = min(kDecodeHeads, group - head_tile * kDecodeHeads);
  const int64_t sequence_index = blockIdx.z;
  const int part = static_cast<int>(blockIdx.x);

  DecodeTask<kPadded> task_input;
  task_input.load_constants(layer, warp, lane);
  release_next();
  wait_for_previous();
  // Does not depend on the position, which takes a while to arrive.
  task_input.load_row(args, warp, sequence_index, kv_head, first_head, heads, lane);
  const SequenceState sequence = args.sequences[sequence_index];
  const SplitPlan plan = plan_splits(sequence.position, layer.window, layer.kv_heads);
  if (part >= plan.parts) return;
  const int begin = plan.begin + part * plan.part;
  const int end = min(plan.end, begin + plan.part);
  const bool holds_new = end == plan.end;
  const CacheLayout layout =
      cache_layout(layer.kv_heads, layer.head_dim, layer.kv_bits, sequence.capacity);
  const CacheHead cache = cache_head(sequence, args.layer_offset, layout, kv_head);

  // The first tokens are under way while the queries are made.
  TokenTile<kPadded, kStored> tile;
  int first = begin + warp * kWarpTokens;
  if (first < end) {
    tile.load_keys(cache.keys, first, end, lane);
    tile.load_values(cache.values, first, end, lane);
  }

  for (int task = warp; task < kDecodeHeads + 2; task += kDecodeWarps) {
    if (task != warp) {
      task_input.load_constants(layer, task, lane);
      task_input.load_row(args, task, sequence_index, kv_head, first_head, heads, lane);
    }
    if (task < 2) {
      if (!holds_new) continue;
      rotate_head(task_input.row, task_input.frequencies, sequence.position);
      const CacheRows rows = {task == 0 ? cache.keys.rows : cache.values.rows,
                              task == 0 ? cache.keys.params : cache.values.params};
      prepare_token(layer, task_input.row, task, sequence.position, head_tile == 0, rows,
                    shared.stage[warp], lane, shared);
    } else if (task - 2 < heads) {
      rotate_head(task_input.row, task_input.frequencies, sequence.position);
      prepare_query(layer, task_input.row, task - 2, lane, shared);
    } else {
      // Rows without a head must be finite, no more.
      const int row = task - 2;
      for (int i = lane; i < kPadded / 16 * 2 * 4; i += 32)
        shared.queries[i / 8][i / 4 % 2][4 * row + i % 4] = make_uint2(0, 0);
      if (lane == 0) shared.query_scales[row] = 0.0f;
    }
  }
  __syncthreads();

  OnlineSums<kPadded> sums;
  const float query_scale = shared.query_scales[lane / 4] * args.score_scale;
  for (; first < end; first += kWarpTokens * kDecodeWarps) {
    const int next = first + kWarpTokens * kDecodeWarps;
    if (holds_new && first + kWarpTokens >= end) tile.insert_new(shared, first, end, lane);
    float s[2][2];
    dot_keys(tile, shared.queries, lane, s);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        const int token = 8 * r + 2 * (lane % 4) + x;
        float scale = query_scale;
        if constexpr (kStored < 16) scale *= __shfl_sync(kAllLanes, tile.key_params.x, token);
        s[r][x] = first + token < end ? s[r][x] * scale : -INFINITY;
      }
    }
    if (next < end) tile.load_keys(cache.keys, next, end, lane);
    uint32_t a[4];
    probabilities(tile, s, lane, sums, a);
    add_values(tile, a, lane, sums);
    if (next < end) tile.load_values(cache.values, next, end, lane);
  }

  sums.sum += __shfl_xor_sync(kAllLanes, sums.sum, 1);
  sums.sum += __shfl_xor_sync(kAllLanes, sums.sum, 2);
  const int g = lane / 4;
  if (lane % 4 == 0) shared.sums[warp][g] = make_float2(sums.top, sums.sum);
  if (g < heads && sums.top != -INFINITY) {
#pragma unroll
    for (int f = 0; f < kPadded / 8; ++f) {
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        const int d = value_element(f, 2 * (lane % 4) + x, kPadded, kStored);
        shared.outputs[warp][g][d] = sums.output[f][x] + sums.output[f][x + 2];
      }
    }
  }
  __syncthreads();
  write_part(args, shared, sequence_index * layer.heads + first_head, heads, part);
}

}  // namespace abq::runtime::cuda
