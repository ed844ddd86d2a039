// Attention as docs/quantization.md defines it, in float64 over quantized keys, values and queries.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/cuda/attention/attention_arguments.h"

namespace abq::runtime::cuda {

// Rows [tokens, heads * D] of one sequence, before rotation.
struct SequenceRows {
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
};

std::vector<float> inverse_frequencies(int head_dim);

// Rotates heads of rows at positions 0, 1, ... with the host's cosine and sine.
void rotate_rows(std::vector<float>& rows, int columns, int head_dim,
                 const std::vector<float>& frequencies);

// Multiplies heads, of a power of two of elements, by the Hadamard matrix over its root, with the
// additions of docs/rotation.md in their order.
void transform_rows(std::vector<float>& rows, int head_dim);

struct ReferenceOutput {
  std::vector<double> y;          // [tokens, heads * D]
  std::vector<double> tolerance;  // for outputs of prefill_attention()
  std::vector<double> fused;      // for those of fused_prefill_attention()
  std::vector<double> tight;      // for those of decode_attention()
};

// Keys and queries are rotated already. 16-bit keys and values round to float16, as the cache does.
ReferenceOutput reference_attention(const AttentionLayer& layer, const SequenceRows& rotated);

}  // namespace abq::runtime::cuda
