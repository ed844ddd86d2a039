// Prefill, first launch: one warp takes one head of one token. Keys and values go to the cache as
// it keeps them; queries become float16 (codes minus zero point where they are quantized).
#pragma once

#include "runtime/cuda/attention/attention_arguments.h"
#include "runtime/cuda/attention/head_rows.cuh"

namespace abq::runtime::cuda {

inline constexpr int kPrepareWarps = 4;

struct PrepareArguments {
  AttentionLayer layer;
  AttentionInput input;
  const SequenceState* sequence;
  int64_t layer_offset;
  int m;
  int m_padded;         // rows a head has in the workspace
  uint32_t* queries;    // [heads][m_padded][padded / 2]: float16 pairs
  float* query_scales;  // [heads][m_padded]
};

// Work item i: token i / (heads + 2 kv_heads), then queries, keys, values in order.
template <int kPadded>
__global__ void __launch_bounds__(32 * kPrepareWarps) prefill_prepare(const PrepareArguments args) {
  constexpr int kPairs = kPadded / 64;
  const AttentionLayer& layer = args.layer;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint16_t* const stage = reinterpret_cast<uint16_t*>(dynamic_shared()) + warp * kPadded;
  const int rows = layer.heads + 2 * layer.kv_heads;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kPrepareWarps + warp;

  release_next();
  wait_for_previous();
  const int64_t token = item / rows;
  if (token >= args.m) return;
  const int row = static_cast<int>(item % rows);
  const bool is_query = row < layer.heads;
  const bool is_value = row >= layer.heads + layer.kv_heads;
  const int head = is_query ? row : (row - layer.heads) % layer.kv_heads;
  const float* const from = is_query   ? args.input.q + token * args.input.q_stride
                            : is_value ? args.input.v + token * args.input.v_stride
                                       : args.input.k + token * args.input.k_stride;
  const SequenceState sequence = *args.sequence;
  const int64_t position = sequence.position + token;

  const int half = layer.head_dim / 2;
  HeadRow<kPairs> x =
      load_head<kPairs>(from + static_cast<int64_t>(head) * layer.head_dim, half, lane);
  const float* const frequencies = is_query   ? layer.query_frequencies
                                   : is_value ? nullptr
                                              : layer.key_frequencies;
  rotate_head(x, load_frequencies<kPairs>(frequencies, half, lane), position);
  const float transform = is_query ? layer.query_transform : is_value ? 0.0f : layer.key_transform;
  if (transform != 0.0f) transform_head(x, transform, half, lane);

  if (is_query) {
    float scale = 1.0f;
    if (layer.query_bits <= 8) {
      const TokenGrid grid = head_grid(x, layer.query_bits);
      const float zero = static_cast<float>(grid.zero);
      scale = grid.scale;
      for_elements<kPadded>(x, layer.head_dim, lane, [&](int d, float v) {
        stage[d] = half_bits(d < layer.head_dim ? code_of(v, grid) - zero : 0.0f);
      });
    } else {
      (void)encode_row<kPadded>(x, layer.head_dim, 16, stage, lane);
    }
    __syncwarp();
    const int64_t at = static_cast<int64_t>(head) * args.m_padded + token;
    for (int word = lane; word < kPadded / 2; word += 32)
      args.queries[at * (kPadded / 2) + word] = packed_word(stage, 16, word);
    if (lane == 0) args.query_scales[at] = scale;
    return;
  }
  const CacheLayout layout =
      cache_layout(layer.kv_heads, layer.head_dim, layer.kv_bits, sequence.capacity);
  std::byte* const base = sequence.cache + sequence.capacity * args.layer_offset;
  const float2 params = encode_row<kPadded>(x, layer.head_dim, layer.kv_bits, stage, lane);
  __syncwarp();
  uint32_t* const target = reinterpret_cast<uint32_t*>(base + layout.rows_at(is_value, head) +
                                                       position * layout.row_bytes);
  const int stored = stored_bits(layer.kv_bits);
  for (int word = lane; word < layout.row_bytes / 4; word += 32)
    target[word] = packed_word(stage, stored, word);
  if (layout.has_params && lane == 0)
    reinterpret_cast<float2*>(base + layout.params_at(is_value, head))[position] = params;
}

}  // namespace abq::runtime::cuda
