// Plain structs of the attention launchers, for host code and kernels (no fmt, no std::span).
#pragma once

#include <cstddef>
#include <cstdint>

namespace abq::runtime::cuda {

struct AttentionLayer {
  int heads = 0;
  int kv_heads = 0;     // divides heads
  int head_dim = 0;     // even, at most 256
  int64_t window = 0;   // 0 = unlimited
  int query_bits = 16;  // 2..8 or 16
  int kv_bits = 16;     // 2..8 or 16
  // Inverse frequencies [head_dim / 2] on the device; null = not rotated here.
  const float* query_frequencies = nullptr;
  const float* key_frequencies = nullptr;
  // 1 / sqrt(head_dim) where heads are multiplied by the Hadamard matrix of that size, a power of
  // two, behind the rotation and ahead of their quantization (docs/rotation.md); 0 = they are not.
  float query_transform = 0.0f;
  float key_transform = 0.0f;
};

// A sequence of a batch, in device memory (one array serves all layers).
struct SequenceState {
  std::byte* cache = nullptr;  // layer l at cache + capacity * (bytes a token of the layers before)
  int64_t capacity = 0;
  int64_t position = 0;  // of the token at hand
};

// Rows of q [heads * D], k and v [kv_heads * D], before rotation and transform.
struct AttentionInput {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t q_stride = 0;
  int64_t k_stride = 0;
  int64_t v_stride = 0;
};

}  // namespace abq::runtime::cuda
