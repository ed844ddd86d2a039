// Attention against a float64 reference that applies the same quantizers: what is tested with
// kernels on a GPU and, in small, with the same kernels run on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/cuda/attention/fused_prefill.h"
#include "runtime/cuda/attention_kernels.h"

namespace abq::runtime::cuda {

// Memory that kernels see: on the device, or of the host where kernels run there. New memory is
// filled with 0xff bytes, which are NaN in every float type.
std::shared_ptr<std::byte> kernel_memory(int64_t bytes);
void copy_to_kernels(void* to, const void* from, int64_t bytes);
void copy_from_kernels(void* to, const void* from, int64_t bytes);  // waits for kernels

struct AttentionCase {
  std::string name() const;

  int heads = 4;
  int kv_heads = 2;
  int head_dim = 64;
  int64_t window = 0;
  int query_bits = 16;
  int kv_bits = 16;
  bool rotated = true;
  bool transformed = false;  // heads by a Hadamard matrix, behind the rotation
  // One sequence per entry: the prompt's chunks in order, each one call of prefill_attention() or
  // fused_prefill_attention().
  std::vector<std::vector<int>> prompts;
  int decoded = 0;  // tokens that all sequences then decode as a batch
  int token_bits = 8;
  // The test writes the prompts' keys and values to the caches itself: decoding alone is checked.
  bool decode_only = false;
  int runs = 2;                     // all with equal bits
  FusedAttention* fused = nullptr;  // prompts go through it
  uint64_t seed = 1;
};

// Runs the case and checks (doctest) outputs, the caches' contents, quantized tokens, and that
// nothing was written beside them.
void check_attention(const AttentionCase& test);

// rope() for single rows and batches.
void check_rope(int head_dim, int columns, int rows, bool batched);

}  // namespace abq::runtime::cuda
