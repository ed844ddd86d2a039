// Prefill, first launch: a warp takes some heads of one token. Keys and values go to the cache as
// it keeps them; queries become float16 (codes minus zero point where they are quantized).
#pragma once

#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/attention/cached_values.cuh"
#include "runtime/cuda/attention/head_rows.cuh"

namespace abq::runtime::cuda {

inline constexpr int kPrepareWarps = 4;

struct PrepareArguments {
  AttentionLayer layer;
  AttentionInput input;
  const SequenceState* sequence;
  int64_t layer_offset;
  int m;
  int warp_rows;  // heads of a warp
  PreparedRows to;
};

// What a warp knows of its token.
struct PrepareToken {
  SequenceState sequence;
  int64_t index;  // in the chunk
  int64_t position;
};

template <int kPadded>
__device__ __forceinline__ void prepare_query(const PrepareArguments& args,
                                              const PrepareToken& token, int head,
                                              HeadRow<kPadded / 64> x, uint16_t* stage, int lane) {
  const AttentionLayer& layer = args.layer;
  float scale = 1.0f;
  if (layer.query_bits <= 8) {
    const TokenGrid grid = head_grid(x, layer.query_bits);
    to_codes(x, grid, static_cast<float>(grid.zero));
    scale = grid.scale;
  }
  for_elements<kPadded>(x, layer.head_dim, lane, [&](int d, float v) { stage[d] = half_bits(v); });
  __syncwarp();
  const int64_t at = head * args.to.head_rows + token.index * args.to.token_rows;
  for (int word = lane; word < kPadded / 2; word += 32)
    args.to.queries[at * (kPadded / 2) + word] = packed_word(stage, 16, word);
  if (lane == 0 && args.to.query_scales != nullptr) args.to.query_scales[at] = scale;
}

// Row `row` of the keys (or values) of all tokens as numbers, from the codes or float16 in `stage`.
template <int kPadded>
__device__ __forceinline__ void write_numbers(uint32_t* numbers, int64_t row, float scale,
                                              float zero, bool coded, const uint16_t* stage,
                                              int lane) {
  for (int word = lane; word < kPadded / 2; word += 32) {
    uint32_t pair = packed_word(stage, 16, word);
    if (coded) {
      pair = half_pair(scale * (static_cast<float>(pair & 0xffffu) - zero),
                       scale * (static_cast<float>(pair >> 16) - zero));
    }
    numbers[row * (kPadded / 2) + word] = pair;
  }
}

template <int kPadded>
__device__ __forceinline__ void prepare_cached(const PrepareArguments& args,
                                               const PrepareToken& token, int head, bool is_value,
                                               const HeadRow<kPadded / 64>& x, uint16_t* stage,
                                               int lane) {
  const AttentionLayer& layer = args.layer;
  const CacheLayout layout =
      cache_layout(layer.kv_heads, layer.head_dim, layer.kv_bits, token.sequence.capacity);
  std::byte* const base = token.sequence.cache + token.sequence.capacity * args.layer_offset;
  const float2 params = encode_row<kPadded>(x, layer.head_dim, layer.kv_bits, stage, lane);
  __syncwarp();
  uint32_t* const target = reinterpret_cast<uint32_t*>(base + layout.rows_at(is_value, head) +
                                                       token.position * layout.row_bytes);
  const int stored = stored_bits(layer.kv_bits);
  for (int word = lane; word < layout.row_bytes / 4; word += 32)
    target[word] = packed_word(stage, stored, word);
  if (layout.has_params && lane == 0)
    reinterpret_cast<float2*>(base + layout.params_at(is_value, head))[token.position] = params;
  if (args.to.numbers.keys == nullptr) return;
  const CachedNumbers& numbers = args.to.numbers;
  const bool scaled = !is_value && numbers.key_scales != nullptr;
  write_numbers<kPadded>(is_value ? numbers.values : numbers.keys,
                         token.position * layer.kv_heads + head, scaled ? 1.0f : params.x, params.y,
                         layout.has_params, stage, lane);
  if (scaled) write_key_scale(numbers, layer, token.position, head, params.x, lane, 32);
}

// Grid (tokens; pieces of the rows of one: queries, then keys, then values).
template <int kPadded>
__global__ void __launch_bounds__(32 * kPrepareWarps) prefill_prepare(const PrepareArguments args) {
  constexpr int kPairs = kPadded / 64;
  const AttentionLayer& layer = args.layer;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint16_t* const stage = reinterpret_cast<uint16_t*>(dynamic_shared()) + warp * kPadded;
  const int rows = layer.heads + 2 * layer.kv_heads;
  const int first = (static_cast<int>(blockIdx.y) * kPrepareWarps + warp) * args.warp_rows;
  const int half = layer.head_dim / 2;

  release_next();
  wait_for_previous();
  PrepareToken token;
  token.sequence = *args.sequence;
  token.index = static_cast<int>(blockIdx.x);
  token.position = token.sequence.position + token.index;
  if (args.to.lengths != nullptr && token.index == 0 && first == 0 && lane == 0) {
    args.to.lengths[0] = args.m;
    args.to.lengths[kLengthStride] = static_cast<int32_t>(token.position) + args.m;
  }

  HeadRotation<kPairs> rotation;
  const float* rotation_of = nullptr;  // the frequencies that it was made from
  for (int row = first; row < min(first + args.warp_rows, rows); ++row) {
    const bool is_query = row < layer.heads;
    const bool is_value = row >= layer.heads + layer.kv_heads;
    const int head = is_query ? row : row - layer.heads - (is_value ? layer.kv_heads : 0);
    const float* const from = is_query   ? args.input.q + token.index * args.input.q_stride
                              : is_value ? args.input.v + token.index * args.input.v_stride
                                         : args.input.k + token.index * args.input.k_stride;
    HeadRow<kPairs> x =
        load_head<kPairs>(from + static_cast<int64_t>(head) * layer.head_dim, half, lane);
    const float* const frequencies = is_query   ? layer.query_frequencies
                                     : is_value ? nullptr
                                                : layer.key_frequencies;
    if (frequencies != nullptr) {
      // Once for all heads that share it: it costs more than the rest.
      if (frequencies != rotation_of)
        rotation = head_rotation<kPairs>(frequencies, half, token.position, lane);
      rotation_of = frequencies;
      rotate_head(x, rotation);
    }
    const float transform = is_query   ? layer.query_transform
                            : is_value ? 0.0f
                                       : layer.key_transform;
    if (transform != 0.0f) transform_head(x, transform, half, lane);
    if (is_query)
      prepare_query<kPadded>(args, token, head, x, stage, lane);
    else
      prepare_cached<kPadded>(args, token, head, is_value, x, stage, lane);
    __syncwarp();
  }
}

}  // namespace abq::runtime::cuda
