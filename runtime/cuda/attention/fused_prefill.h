// Attention of prompts through cuDNN (runtime/cuda/cudnn/fused_attention.h): when, and the launches
// around it. Everything is enqueued on `stream`.
//
// cuDNN reads float16 numbers and returns them. Where queries are quantized, they and the keys stay
// codes minus zero point, exact in float16, and scales are applied to scores in float32, as
// prefill_attention() does it; keys behind queries of 16 bits, and all values, are rounded once
// after their scale. The cache gets the same bytes.
#pragma once

#include <cuda_runtime_api.h>

#include "runtime/cuda/attention_kernels.h"
#include "runtime/cuda/cudnn/fused_attention.h"

namespace abq::runtime::cuda {

// Whether cuDNN is faster than prefill_attention() for m tokens of `tokens` in all, what it needs
// around it counted in. A rule of measured times (docs/cuda_runtime.md); false for what it is never
// asked: sliding windows, sequences whose float16 keys and values take more than kMostFusedBytes.
bool fused_is_faster(const AttentionLayer& layer, int64_t m, int64_t tokens);
// Whether cuDNN can be asked at all.
bool fused_can_run(const AttentionLayer& layer, int64_t tokens);
inline constexpr int64_t kMostFusedBytes = int64_t{1} << 30;

// The plan that runs chunks of m tokens: few shapes serve all.
FusedAttentionShape fused_shape(const AttentionLayer& layer, int64_t m);

int64_t fused_workspace_bytes(const FusedAttention& fused, const AttentionLayer& layer, int64_t m,
                              int64_t tokens);
// `tokens` = the sequence's position + m. The errors of FusedAttention::run().
Status fused_prefill_attention(FusedAttention& fused, const AttentionLayer& layer,
                               int64_t layer_offset, const AttentionInput& input,
                               const SequenceState* sequence, int m, int64_t tokens, float* y,
                               int64_t y_stride, const Workspace& workspace, cudaStream_t stream);

}  // namespace abq::runtime::cuda
