// Checks of arguments around the launches, and CUDA's errors as Status.
#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/attention_kernels.h"
#include "runtime/cuda/cuda_status.h"

namespace abq::runtime::cuda {
namespace {

bool is_width(int bits) {
  return (bits >= 2 && bits <= 8) || bits == 16;
}

Status check_workspace(const Workspace& workspace, int64_t needed) {
  if (workspace.bytes >= needed) return {};
  return invalid_argument("cuda attention: {} bytes of workspace needed, got {}", needed,
                          workspace.bytes);
}

}  // namespace

Status check_attention(const AttentionLayer& layer) {
  if (layer.heads < 1 || layer.kv_heads < 1 || layer.heads % layer.kv_heads != 0) {
    return invalid_argument("cuda attention: kv heads must divide heads, got {} and {}",
                            layer.kv_heads, layer.heads);
  }
  if (layer.head_dim < 2 || layer.head_dim % 2 != 0 || layer.head_dim > kMaxHeadDim) {
    return unsupported("cuda attention: expected an even head size up to {}, got {}", kMaxHeadDim,
                       layer.head_dim);
  }
  const bool transformed = layer.query_transform != 0.0f || layer.key_transform != 0.0f;
  if (transformed && (layer.head_dim & (layer.head_dim - 1)) != 0) {
    return invalid_argument("cuda attention: heads of {} elements are not transformed here",
                            layer.head_dim);
  }
  if (!is_width(layer.query_bits) || !is_width(layer.kv_bits)) {
    return invalid_argument("cuda attention: expected widths 2..8 or 16, got q{} and kv{}",
                            layer.query_bits, layer.kv_bits);
  }
  return {};
}

int64_t cache_token_bytes(const AttentionLayer& layer) {
  return cache_layout(layer.kv_heads, layer.head_dim, layer.kv_bits, 1).token_bytes();
}

int64_t prefill_workspace_bytes(const AttentionLayer& layer, int64_t max_m) {
  return plan_prefill_workspace(layer, max_m).bytes();
}

int64_t decode_workspace_bytes(const AttentionLayer& layer, int64_t max_m, int64_t max_tokens) {
  return plan_decode_workspace(layer, max_m, max_tokens).bytes();
}

Status prefill_attention(const AttentionLayer& layer, int64_t layer_offset,
                         const AttentionInput& input, const SequenceState* sequence, int m,
                         float* y, int64_t y_stride, const Workspace& workspace,
                         cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_attention(layer));
  ABQ_RETURN_IF_ERROR(check_workspace(workspace, prefill_workspace_bytes(layer, m)));
  PrefillLaunch call;
  call.layer = layer;
  call.layer_offset = layer_offset;
  call.input = input;
  call.sequence = sequence;
  call.m = m;
  call.y = y;
  call.y_stride = y_stride;
  call.workspace = static_cast<unsigned char*>(workspace.data);
  const PrefillWorkspace plan = plan_prefill_workspace(layer, m);
  PreparedRows prepared;
  prepared.queries = reinterpret_cast<uint32_t*>(call.workspace);
  prepared.head_rows = plan.m_padded;
  prepared.token_rows = 1;
  prepared.query_scales = reinterpret_cast<float*>(call.workspace + plan.queries_bytes);
  ABQ_RETURN_IF_CUDA_ERROR(launch_prefill_prepare(call, prepared, stream),
                           "cuda.attention_prefill (cache), {} tokens, heads {}/{} of {}", m,
                           layer.heads, layer.kv_heads, layer.head_dim);
  ABQ_RETURN_IF_CUDA_ERROR(launch_prefill_flash(call, stream),
                           "cuda.attention_prefill, {} tokens, heads {}/{} of {}, kv{}", m,
                           layer.heads, layer.kv_heads, layer.head_dim, layer.kv_bits);
  return {};
}

Status decode_attention(const AttentionLayer& layer, int64_t layer_offset,
                        const AttentionInput& input, const SequenceState* sequences, int m,
                        int64_t max_tokens, float* y, int64_t y_stride, const TokenTiles* tokens,
                        const Workspace& workspace, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_attention(layer));
  ABQ_RETURN_IF_ERROR(check_workspace(workspace, decode_workspace_bytes(layer, m, max_tokens)));
  if (tokens != nullptr && (tokens->k != layer.heads * layer.head_dim || tokens->m < m)) {
    return invalid_argument("cuda attention: tokens of [{}, {}] expected, got [{}, {}]", m,
                            layer.heads * layer.head_dim, tokens->m, tokens->k);
  }
  DecodeLaunch call;
  call.layer = layer;
  call.layer_offset = layer_offset;
  call.input = input;
  call.sequences = sequences;
  call.m = m;
  call.max_tokens = max_tokens;
  call.y = y;
  call.y_stride = y_stride;
  call.tokens = tokens;
  call.workspace = static_cast<unsigned char*>(workspace.data);
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_decode_split(call, stream),
      "cuda.attention_decode, {} sequences up to {} tokens, heads {}/{} of {}, "
      "kv{}",
      m, max_tokens, layer.heads, layer.kv_heads, layer.head_dim, layer.kv_bits);
  ABQ_RETURN_IF_CUDA_ERROR(launch_decode_combine(call, stream),
                           "cuda.attention_decode (combine), {} sequences, heads {} of {}", m,
                           layer.heads, layer.head_dim);
  return {};
}

Status rope(const float* x, int64_t x_stride, int columns, int head_dim, const float* frequencies,
            const SequenceState* sequences, bool batched, int m, float* y, int64_t y_stride,
            cudaStream_t stream) {
  if (head_dim < 2 || head_dim % 2 != 0 || columns % head_dim != 0) {
    return invalid_argument("cuda rope: expected heads of an even size, got {} columns of heads {}",
                            columns, head_dim);
  }
  RopeLaunch call;
  call.x = x;
  call.x_stride = x_stride;
  call.columns = columns;
  call.head_dim = head_dim;
  call.frequencies = frequencies;
  call.sequences = sequences;
  call.batched = batched;
  call.m = m;
  call.y = y;
  call.y_stride = y_stride;
  ABQ_RETURN_IF_CUDA_ERROR(launch_rope(call, stream), "cuda.rope, {} tokens of {}", m, columns);
  return {};
}

}  // namespace abq::runtime::cuda
