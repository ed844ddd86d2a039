// Launchers of rotary embedding, the KV cache and causal grouped-query attention. Everything is
// enqueued on `stream`, captures into graphs, allocates nothing and is deterministic.
//
// New keys and values are rotated, quantized as docs/quantization.md says (per token and head) and
// written to the cache; attention reads them from there. Results do not depend on how a prompt is
// cut into chunks, up to rounding.
//
// The array of sequences is written by copies alone, never by a kernel, and one copy at least lies
// between the launches of two tokens of a sequence. A copy and a kernel behind it do not overlap,
// so the states and the cached tokens before their positions are complete when decode_attention()'s
// kernels start, even before the kernel ahead of them has finished.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "runtime/cuda/attention/attention_arguments.h"
#include "runtime/cuda/views.h"
#include "support/status.h"

namespace abq::runtime::cuda {

// Ok, or InvalidArgument and Unsupported for what the launchers below refuse.
Status check_attention(const AttentionLayer& layer);

// Memory of one layer in a sequence's cache: capacity * cache_token_bytes(layer) bytes, where
// capacity is a multiple of kCacheGranularity. Keys and values at 16 bits are float16; below, codes
// in 2, 4 or 8 bits (the next that holds them) with a float32 scale and zero point per token and
// head.
inline constexpr int kCacheGranularity = 64;
int64_t cache_token_bytes(const AttentionLayer& layer);

// m consecutive tokens of one sequence, the first at sequence->position (read on the device).
int64_t prefill_workspace_bytes(const AttentionLayer& layer, int64_t max_m);
Status prefill_attention(const AttentionLayer& layer, int64_t layer_offset,
                         const AttentionInput& input, const SequenceState* sequence, int m,
                         float* y, int64_t y_stride, const Workspace& workspace,
                         cudaStream_t stream);

// One token for each of m sequences. `layer_offset` = bytes a token of the layers before this one.
// max_tokens bounds every position + 1 (a graph is replayed while it holds). Either y or tokens may
// be absent (null): with tokens the result is quantized in the same launch that combines the parts
// of the sequence.
int64_t decode_workspace_bytes(const AttentionLayer& layer, int64_t max_m, int64_t max_tokens);
Status decode_attention(const AttentionLayer& layer, int64_t layer_offset,
                        const AttentionInput& input, const SequenceState* sequences, int m,
                        int64_t max_tokens, float* y, int64_t y_stride, const TokenTiles* tokens,
                        const Workspace& workspace, cudaStream_t stream);

// Rotary embedding alone, for plans where it does not feed attention; rows i at
// sequences[0].position + i, or with `batched` row i at sequences[i].position.
Status rope(const float* x, int64_t x_stride, int columns, int head_dim, const float* frequencies,
            const SequenceState* sequences, bool batched, int m, float* y, int64_t y_stride,
            cudaStream_t stream);

}  // namespace abq::runtime::cuda
