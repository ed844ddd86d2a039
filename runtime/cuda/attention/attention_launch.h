// The launches behind runtime/cuda/attention_kernels.h, as host code calls them: arguments checked
// before, CUDA's error codes returned.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "runtime/cuda/attention/attention_arguments.h"
#include "runtime/cuda/attention/cache_layout.h"
#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

inline constexpr int64_t kPartAlignment = 256;
inline constexpr int64_t aligned_bytes(int64_t bytes) {
  return (bytes + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
}

// Sequences' parts: their sums of values, then (top, sum) of each.
struct DecodeWorkspace {
  int part_stride = 0;
  int64_t parts_bytes = 0;
  int64_t sums_bytes = 0;
  int64_t bytes() const { return parts_bytes + sums_bytes; }
};
inline DecodeWorkspace plan_decode_workspace(const AttentionLayer& layer, int64_t m,
                                             int64_t max_tokens) {
  const int stride = split_bound(max_tokens, layer.window, layer.kv_heads);
  const int64_t parts = m * layer.heads * stride;
  return {stride, aligned_bytes(parts * padded_head_dim(layer.head_dim) * 4),
          aligned_bytes(parts * 8)};
}

// Queries as float16 and their scales, m rounded up to the queries of a block.
struct PrefillWorkspace {
  int m_padded = 0;
  int64_t queries_bytes = 0;
  int64_t scales_bytes = 0;
  int64_t bytes() const { return queries_bytes + scales_bytes; }
};
inline PrefillWorkspace plan_prefill_workspace(const AttentionLayer& layer, int64_t m) {
  constexpr int64_t kBlockQueries = 64;
  const int64_t padded = (m + kBlockQueries - 1) / kBlockQueries * kBlockQueries;
  const int64_t rows = padded * layer.heads;
  return {static_cast<int>(padded), aligned_bytes(rows * padded_head_dim(layer.head_dim) * 2),
          aligned_bytes(rows * 4)};
}

struct DecodeLaunch {
  AttentionLayer layer;
  int64_t layer_offset = 0;
  AttentionInput input;
  const SequenceState* sequences = nullptr;
  int m = 0;
  int64_t max_tokens = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  const TokenTiles* tokens = nullptr;
  unsigned char* workspace = nullptr;
};
cudaError_t launch_decode_split(const DecodeLaunch& launch, cudaStream_t stream);
cudaError_t launch_decode_combine(const DecodeLaunch& launch, cudaStream_t stream);

struct PrefillLaunch {
  AttentionLayer layer;
  int64_t layer_offset = 0;
  AttentionInput input;
  const SequenceState* sequence = nullptr;
  int m = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  unsigned char* workspace = nullptr;
};
// Keys and values of a sequence as float16 numbers, for attention that reads no codes:
// [tokens][kv heads][padded / 2 words].
struct CachedNumbers {
  uint32_t* keys = nullptr;  // null: nobody wants them
  uint32_t* values = nullptr;
  // [tokens][heads], those of a kv head repeated for its query heads; keys are codes minus zero
  // points then. Null: their scales are multiplied in.
  float* key_scales = nullptr;
};

// What the first launch of prefill writes beside the cache.
inline constexpr int kLengthStride = 4;  // words between two lengths
struct PreparedRows {
  // Rows of padded / 2 words, float16 pairs: head h of token t is row h * head_rows + t *
  // token_rows.
  uint32_t* queries = nullptr;
  int64_t head_rows = 0;
  int64_t token_rows = 0;
  float* query_scales = nullptr;  // a row each; null: nobody reads them (queries of 16 bits)
  int32_t* lengths = nullptr;     // unless null: tokens of the chunk, and in all
  CachedNumbers numbers;          // of the chunk's tokens
};
cudaError_t launch_prefill_prepare(const PrefillLaunch& launch, const PreparedRows& to,
                                   cudaStream_t stream);
cudaError_t launch_prefill_flash(const PrefillLaunch& launch, cudaStream_t stream);

// The numbers of cached tokens 0 .. past - 1, and zeros for tokens `tokens` .. rows - 1.
struct ExpandLaunch {
  AttentionLayer layer;
  int64_t layer_offset = 0;
  const SequenceState* sequence = nullptr;
  int64_t past = 0;
  int64_t tokens = 0;
  int64_t rows = 0;
  CachedNumbers numbers;
};
cudaError_t launch_expand_cache(const ExpandLaunch& launch, cudaStream_t stream);

// y [m, columns] = x [m, columns], float16; rows of y y_stride apart.
cudaError_t launch_widen(const void* x, int64_t m, int64_t columns, float* y, int64_t y_stride,
                         cudaStream_t stream);

struct RopeLaunch {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int columns = 0;
  int head_dim = 0;
  const float* frequencies = nullptr;
  const SequenceState* sequences = nullptr;
  bool batched = false;
  int m = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
};
cudaError_t launch_rope(const RopeLaunch& launch, cudaStream_t stream);

}  // namespace abq::runtime::cuda
