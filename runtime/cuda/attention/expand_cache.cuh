// Cached keys and values as the float16 numbers that their codes stand for, token after token.
#pragma once

#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/attention/cached_values.cuh"

namespace abq::runtime::cuda {

inline constexpr int kExpandThreads = 256;

// Codes 8 i .. 8 i + 7 of a row, `stored` bits each, as numbers.
__device__ __forceinline__ uint4 expand_chunk(const std::byte* row, int i, int stored,
                                              float2 params) {
  const std::byte* const from = row + static_cast<int64_t>(i) * stored;
  if (stored == 16) return *reinterpret_cast<const uint4*>(from);
  uint64_t codes = 0;
  if (stored == 8) {
    codes = *reinterpret_cast<const uint64_t*>(from);
  } else if (stored == 4) {
    codes = *reinterpret_cast<const uint32_t*>(from);
  } else {
    codes = *reinterpret_cast<const uint16_t*>(from);
  }
  const unsigned mask = (1u << stored) - 1;
  uint32_t pairs[4];
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    const unsigned low = static_cast<unsigned>(codes >> (2 * p * stored)) & mask;
    const unsigned high = static_cast<unsigned>(codes >> ((2 * p + 1) * stored)) & mask;
    pairs[p] = half_pair(params.x * (static_cast<float>(low) - params.y),
                         params.x * (static_cast<float>(high) - params.y));
  }
  return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

// Grid (chunks of eight elements, row after row; keys, values).
template <int kPadded>
__global__ void __launch_bounds__(kExpandThreads) expand_cache(const ExpandLaunch args) {
  constexpr int kChunks = kPadded / 8;
  const AttentionLayer& layer = args.layer;
  const unsigned item = blockIdx.x * kExpandThreads + threadIdx.x;
  const int chunk = static_cast<int>(item % kChunks);
  const int head = static_cast<int>(item / kChunks % static_cast<unsigned>(layer.kv_heads));
  const int64_t row = item / kChunks / static_cast<unsigned>(layer.kv_heads);
  const bool is_value = blockIdx.y == 1;

  release_next();
  wait_for_previous();
  const bool cached = row < args.past;
  const int64_t token = cached ? row : args.tokens + row - args.past;
  if (token >= args.rows) return;
  uint4 numbers = make_uint4(0, 0, 0, 0);
  if (cached) {
    const SequenceState sequence = *args.sequence;
    const CacheLayout layout =
        cache_layout(layer.kv_heads, layer.head_dim, layer.kv_bits, sequence.capacity);
    const CacheHead cache = cache_head(sequence, args.layer_offset, layout, head);
    const CacheRows& from = is_value ? cache.values : cache.keys;
    float2 params = layout.has_params ? from.params[token] : make_float2(1.0f, 0.0f);
    if (!is_value && args.numbers.key_scales != nullptr) {
      write_key_scale(args.numbers, layer, token, head, params.x, chunk, kChunks);
      params.x = 1.0f;
    }
    numbers = expand_chunk(from.rows + token * layout.row_bytes, chunk, stored_bits(layer.kv_bits),
                           params);
  }
  uint32_t* const to = is_value ? args.numbers.values : args.numbers.keys;
  reinterpret_cast<uint4*>(to)[(token * layer.kv_heads + head) * kChunks + chunk] = numbers;
}

}  // namespace abq::runtime::cuda
