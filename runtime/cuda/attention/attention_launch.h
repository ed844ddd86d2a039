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
cudaError_t launch_prefill_prepare(const PrefillLaunch& launch, cudaStream_t stream);
cudaError_t launch_prefill_flash(const PrefillLaunch& launch, cudaStream_t stream);

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
