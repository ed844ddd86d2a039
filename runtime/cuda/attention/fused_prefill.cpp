#include "runtime/cuda/attention/fused_prefill.h"

#include <algorithm>
#include <bit>

#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/cuda_status.h"

namespace abq::runtime::cuda {
namespace {

constexpr int64_t kHalf = 2;             // bytes
constexpr int64_t kFloat = 4;            // bytes
constexpr int64_t kSmallestChunk = 512;  // that plans are made for
constexpr int64_t kLengthsBytes = 2 * kLengthStride * static_cast<int64_t>(sizeof(int32_t));

// Tokens whose keys and values there is room for: in powers of two, so that a growing sequence asks
// for new memory a few times only.
int64_t room(int64_t tokens) {
  return std::max(kFusedTile, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(tokens))));
}

int64_t cached_bytes(const AttentionLayer& layer, int64_t tokens) {
  return room(tokens) * layer.kv_heads * padded_head_dim(layer.head_dim) * kHalf;
}

// Offsets of the parts of a workspace.
struct FusedWorkspace {
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t values = 0;
  int64_t output = 0;
  int64_t query_scales = 0;
  int64_t key_scales = 0;
  int64_t lengths = 0;
  int64_t library = 0;
  int64_t bytes = 0;
};
FusedWorkspace plan_workspace(const FusedAttention& fused, const AttentionLayer& layer, int64_t m,
                              int64_t tokens) {
  const FusedAttentionShape shape = fused_shape(layer, m);
  const int64_t rows = shape.queries * shape.heads;
  FusedWorkspace plan;
  const auto place = [&](int64_t bytes) {
    const int64_t at = plan.bytes;
    plan.bytes += aligned_bytes(bytes);
    return at;
  };
  plan.queries = place(rows * shape.row * kHalf);
  plan.keys = place(cached_bytes(layer, tokens));
  plan.values = place(cached_bytes(layer, tokens));
  plan.output = place(rows * shape.head_dim * kHalf);
  if (shape.query_scales) plan.query_scales = place(rows * kFloat);
  if (shape.key_scales) plan.key_scales = place(room(tokens) * shape.heads * kFloat);
  plan.lengths = place(kLengthsBytes);
  plan.library = place(fused.workspace_bytes());
  return plan;
}

}  // namespace

bool fused_can_run(const AttentionLayer& layer, int64_t tokens) {
  return layer.window == 0 && 2 * cached_bytes(layer, tokens) <= kMostFusedBytes;
}

bool fused_is_faster(const AttentionLayer& layer, int64_t m, int64_t tokens) {
  // Long chunks, or long pasts: below, launches and the copies around cuDNN cost more than it
  // saves.
  return fused_can_run(layer, tokens) && (m >= 256 || (m >= 64 && tokens >= 512));
}

FusedAttentionShape fused_shape(const AttentionLayer& layer, int64_t m) {
  const auto bound = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(m)));
  FusedAttentionShape shape;
  shape.heads = layer.heads;
  shape.kv_heads = layer.kv_heads;
  shape.head_dim = layer.head_dim;
  shape.row = padded_head_dim(layer.head_dim);
  shape.queries = std::max(bound, kSmallestChunk);
  shape.query_scales = layer.query_bits < 16;
  shape.key_scales = layer.query_bits < 16 && layer.kv_bits < 16;
  return shape;
}

int64_t fused_workspace_bytes(const FusedAttention& fused, const AttentionLayer& layer, int64_t m,
                              int64_t tokens) {
  return plan_workspace(fused, layer, m, tokens).bytes;
}

Status fused_prefill_attention(FusedAttention& fused, const AttentionLayer& layer,
                               int64_t layer_offset, const AttentionInput& input,
                               const SequenceState* sequence, int m, int64_t tokens, float* y,
                               int64_t y_stride, const Workspace& workspace, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_attention(layer));
  if (!fused_can_run(layer, tokens)) {
    return unsupported("cuda attention: {} tokens with a window of {} do not go through cuDNN",
                       tokens, layer.window);
  }
  const FusedWorkspace plan = plan_workspace(fused, layer, m, tokens);
  if (workspace.bytes < plan.bytes) {
    return invalid_argument("cuda attention: {} bytes of workspace needed, got {}", plan.bytes,
                            workspace.bytes);
  }
  auto* const memory = static_cast<unsigned char*>(workspace.data);
  PrefillLaunch call;
  call.layer = layer;
  call.layer_offset = layer_offset;
  call.input = input;
  call.sequence = sequence;
  call.m = m;
  const FusedAttentionShape shape = fused_shape(layer, m);
  PreparedRows to;
  to.queries = reinterpret_cast<uint32_t*>(memory + plan.queries);
  to.head_rows = 1;
  to.token_rows = layer.heads;
  to.lengths = reinterpret_cast<int32_t*>(memory + plan.lengths);
  to.numbers.keys = reinterpret_cast<uint32_t*>(memory + plan.keys);
  to.numbers.values = reinterpret_cast<uint32_t*>(memory + plan.values);
  if (shape.query_scales) to.query_scales = reinterpret_cast<float*>(memory + plan.query_scales);
  if (shape.key_scales) to.numbers.key_scales = reinterpret_cast<float*>(memory + plan.key_scales);
  ABQ_RETURN_IF_CUDA_ERROR(launch_prefill_prepare(call, to, stream),
                           "cuda.attention_prefill (cache), {} tokens, heads {}/{} of {}", m,
                           layer.heads, layer.kv_heads, layer.head_dim);
  ExpandLaunch expand;
  expand.layer = layer;
  expand.layer_offset = layer_offset;
  expand.sequence = sequence;
  expand.past = tokens - m;
  expand.tokens = tokens;
  expand.rows = (tokens + kFusedTile - 1) / kFusedTile * kFusedTile;
  expand.numbers = to.numbers;
  ABQ_RETURN_IF_CUDA_ERROR(launch_expand_cache(expand, stream),
                           "cuda.attention_prefill (expand), {} tokens, kv{}", tokens,
                           layer.kv_bits);
  FusedAttentionBuffers buffers;
  buffers.queries = to.queries;
  buffers.keys = to.numbers.keys;
  buffers.values = to.numbers.values;
  buffers.output = memory + plan.output;
  buffers.query_scales = to.query_scales;
  buffers.key_scales = to.numbers.key_scales;
  buffers.chunk = to.lengths;
  buffers.tokens = to.lengths + kLengthStride;
  buffers.workspace = memory + plan.library;
  ABQ_RETURN_IF_ERROR(fused.run(shape, buffers, stream));
  const int64_t columns = static_cast<int64_t>(layer.heads) * layer.head_dim;
  ABQ_RETURN_IF_CUDA_ERROR(launch_widen(buffers.output, m, columns, y, y_stride, stream),
                           "cuda.attention_prefill (results), {} tokens of {}", m, columns);
  return {};
}

}  // namespace abq::runtime::cuda
