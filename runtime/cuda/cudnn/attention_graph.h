// Causal attention of a chunk of tokens as a graph of cuDNN operations, in the form that its fused
// attention kernels recognize.
//
//   scores         = scale * (queries keys^T)  [* query_scales[i, head]] [* key_scales[j, head]]
//   scores[i, j]   = -infinity  unless i < chunk, j < tokens and j <= i + tokens - chunk
//   output         = softmax(scores) values
//
// chunk and tokens are numbers in device memory, so one graph serves all up to its bounds.
#pragma once

#include <cstdint>

#include "runtime/cuda/cudnn/descriptors.h"
#include "runtime/cuda/cudnn/fused_attention.h"

namespace abq::runtime::cuda {

// Most tokens that a sequence can have: a bound that costs nothing.
inline constexpr int64_t kMostFusedKeys = int64_t{1} << 20;

// What a graph's tensors are called in a variant pack.
enum class FusedTensor : int64_t {
  kQueries = 1,  // [queries][heads][row] float16
  kKeys,         // [tokens][kv heads][row] float16
  kValues,       // [tokens][kv heads][row] float16
  kOutput,       // [queries][heads][head_dim] float16
  kChunk,        // int32
  kTokens,       // int32
  kScale,        // float, on the host
  kMasked,       // float, on the host: -infinity
  kQueryScales,  // [queries][heads] float, where the shape has them
  kKeyScales,    // [tokens][heads] float, likewise
};

// The finalized operation graph; what it consists of is owned by `descriptors`, whose status says
// what failed. `handle` may be null where plans are made for a described device.
cudnnBackendDescriptor_t make_attention_graph(const FusedAttentionShape& shape,
                                              cudnnHandle_t handle, CudnnDescriptors& descriptors);

}  // namespace abq::runtime::cuda
