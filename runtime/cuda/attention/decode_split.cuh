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
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < heads * kPadded; i += 32 * kDecodeWarps) {
    const int head = i / kPadded;
    const int d = i % kPadded;
    float2 sums[kDecodeWarps];
    float top = -INFINITY;
#pragma unroll
    for (int w = 0; w < kDecodeWarps; ++w) {
      sums[w] = shared.sums[w][head];
      top = fmaxf(top, sums[w].x);
    }
    float output = 0.0f;
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kDecodeWarps; ++w) {
      const float factor = power_of_two(sums[w].x - top);
      const float of_warp = shared.outputs[w][head][d];
      output += sums[w].x == -INFINITY ? 0.0f : factor * of_warp;  // a warp without tokens
      sum += factor * sums[w].y;
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
  release_next();
  // Sequences and the tokens before their positions are complete when the kernels of a step start
  // (attention_kernels.h): what depends on nothing else comes before the wait.
  const int64_t sequence_index = blockIdx.z;
  const SequenceState sequence = load_sequence(args.sequences + sequence_index);
  PairRotations<kPadded> rotations;
  rotations.load(layer);
  const int warp = warp_of_block();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int kv_head = static_cast<int>(blockIdx.y) / args.head_tiles;
  const int head_tile = static_cast<int>(blockIdx.y) % args.head_tiles;
  const int first_head = kv_head * args.group + head_tile * kDecodeHeads;
  const int heads = min(kDecodeHeads, args.group - head_tile * kDecodeHeads);
  const int part = static_cast<int>(blockIdx.x);
  const SplitPlan plan = plan_splits(sequence.position, layer.window, layer.kv_heads);
  const int begin = plan.begin + part * plan.part;
  if (begin >= plan.end) {
    wait_for_previous();
    return;
  }
  const int end = min(plan.end, begin + plan.part);
  const bool holds_new = end == plan.end;
  const CacheLayout layout =
      cache_layout(layer.kv_heads, layer.head_dim, layer.kv_bits, sequence.capacity);
  const CacheHead cache = cache_head(sequence, args.layer_offset, layout, kv_head);
  TokenTile<kPadded, kStored> tile;
  int first = begin + warp * kWarpTokens;
  if (first < end) {
    tile.load_keys(cache.keys, first, end, lane);
    tile.load_values(cache.values, first, end, lane);
  }
  constexpr int kStep = kWarpTokens * kDecodeWarps;
  if (first + kStep < end) tile.prefetch_tokens(cache, first + kStep, end, lane);
  rotations.store(sequence.position, shared.rotations);
  clear_unused_queries(heads, shared);
  const int half = layer.head_dim / 2;
  int task = holds_new ? warp : warp + 2;
  const float* from = task_row(args, task, sequence_index, kv_head, first_head, heads);
  __syncthreads();
  wait_for_previous();

  HeadRow<kPadded / 64> row = load_head<kPadded / 64>(from, half, lane);
  while (task < heads + 2) {
    if (task == 0 && layer.key_frequencies != nullptr)
      rotate_head(row, shared.rotations[1], half, lane);
    if (task >= 2 && layer.query_frequencies != nullptr)
      rotate_head(row, shared.rotations[0], half, lane);
    const float transform = task >= 2   ? layer.query_transform
                            : task == 0 ? layer.key_transform
                                        : 0.0f;
    if (transform != 0.0f) transform_head(row, transform, half, lane);
    if (task < 2) {
      const CacheRows rows = {task == 0 ? cache.keys.rows : cache.values.rows,
                              task == 0 ? cache.keys.params : cache.values.params};
      prepare_token(layer, row, task, sequence.position, head_tile == 0, rows, shared.stage[warp],
                    lane, shared);
    } else {
      prepare_query(layer, row, task - 2, lane, shared);
    }
    task += kDecodeWarps;
    from = task_row(args, task, sequence_index, kv_head, first_head, heads);
    row = load_head<kPadded / 64>(from, half, lane);
  }
  __syncthreads();

  OnlineSums<kPadded> sums;
  const float query_scale = shared.query_scales[lane / 4] * args.score_scale;
  for (; first < end; first += kStep) {
    const int next = first + kStep;
    if (next + kStep < end) tile.prefetch_tokens(cache, next + kStep, end, lane);
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
