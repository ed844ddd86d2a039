// A kv head's rows in a cache, and what turns stored codes into operands of float16 products: a
// code minus its zero point is an integer that float16 holds exactly; scales are applied in
// float32.
#pragma once

#include <cstddef>

#include "runtime/cuda/attention/attention_arguments.h"
#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/attention/cache_layout.h"
#include "runtime/cuda/attention/warp.cuh"

namespace abq::runtime::cuda {

__device__ __forceinline__ SequenceState load_sequence(const SequenceState* from) {
  const uint64_t cache = load_now(&from->cache);
  const uint64_t capacity = load_now(&from->capacity);
  const uint64_t position = load_now(&from->position);
  return {reinterpret_cast<std::byte*>(cache), static_cast<int64_t>(capacity),
          static_cast<int64_t>(position)};
}

// One kv head of one sequence's cache.
struct CacheRows {
  std::byte* rows;
  float2* params;
};
struct CacheHead {
  CacheRows keys;
  CacheRows values;
};

__device__ __forceinline__ CacheHead cache_head(const SequenceState& sequence, int64_t layer_offset,
                                                const CacheLayout& layout, int head) {
  std::byte* const base = sequence.cache + sequence.capacity * layer_offset;
  return {{base + layout.rows_at(false, head),
           reinterpret_cast<float2*>(base + layout.params_at(false, head))},
          {base + layout.rows_at(true, head),
           reinterpret_cast<float2*>(base + layout.params_at(true, head))}};
}

// The scale of a token's key for the query heads that read it, written by `step` threads.
__device__ __forceinline__ void write_key_scale(const CachedNumbers& numbers,
                                                const AttentionLayer& layer, int64_t token,
                                                int kv_head, float scale, int first, int step) {
  const int group = layer.heads / layer.kv_heads;
  for (int i = first; i < group; i += step)
    numbers.key_scales[token * layer.heads + kv_head * group + i] = scale;
}

// For codes on top of float16's 1024, see code_pair().
__device__ __forceinline__ __half2 code_offset(float zero_low, float zero_high) {
  return __floats2half2_rn(1024.0f + zero_low, 1024.0f + zero_high);
}
__device__ __forceinline__ uint32_t half_pair(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// A value's scale is 2^exponent * mantissa. The exponent takes part in the search for the highest
// score, so that what enters the product as probability is at most 2 whatever the scales are.
struct ScaleParts {
  float exponent;
  float mantissa;
  float inverse_power;  // 2^-exponent
};
__device__ __forceinline__ ScaleParts split_scale(float scale) {
  const uint32_t bits = __float_as_uint(scale);
  const int biased = static_cast<int>(bits >> 23);
  return {static_cast<float>(biased - 127), __uint_as_float((bits & 0x7fffffu) | 0x3f800000u),
          __uint_as_float(static_cast<uint32_t>(254 - biased) << 23)};
}

}  // namespace abq::runtime::cuda
