// cuDNN's fused attention of a prompt's chunk: plans by shape, made once, and their runs. Needs no
// header of cuDNN, which is opened at run time.
#pragma once

#include <cuda_runtime_api.h>

#include <compare>
#include <cstdint>
#include <memory>
#include <string>

#include "support/status.h"

namespace abq::runtime::cuda {

struct FusedAttentionShape {
  int heads = 0;
  int kv_heads = 0;     // divides heads
  int head_dim = 0;     // elements of a head
  int row = 0;          // elements between rows of queries, keys and values; at least head_dim
  int64_t queries = 0;  // most tokens of a chunk
  // Scores are multiplied by a scale of their query's head, and of their key's.
  bool query_scales = false;
  bool key_scales = false;

  auto operator<=>(const FusedAttentionShape&) const = default;
};

// Keys and values are read in whole tiles of this many tokens: up to the end of the last tile their
// memory exists.
inline constexpr int64_t kFusedTile = 256;

// Device memory of a run, 16-byte aligned.
struct FusedAttentionBuffers {
  const void* queries = nullptr;        // [shape.queries][heads][row] float16
  const void* keys = nullptr;           // [tokens, to the end of a tile][kv heads][row] float16
  const void* values = nullptr;         // the same
  void* output = nullptr;               // [shape.queries][heads][head_dim] float16
  const float* query_scales = nullptr;  // [shape.queries][heads], where the shape has them
  const float* key_scales = nullptr;    // [tokens, to the end of a tile][heads], likewise
  const int32_t* chunk = nullptr;       // tokens of the chunk, at most shape.queries
  const int32_t* tokens = nullptr;      // tokens in all, those of the chunk last
  void* workspace = nullptr;            // FusedAttention::workspace_bytes()

  auto operator<=>(const FusedAttentionBuffers&) const = default;
};

class FusedAttention {
 public:
  // On the current device. Unsupported: no cuDNN, one that is too old, or a build without its
  // headers; Device: what cuDNN said.
  static Result<std::unique_ptr<FusedAttention>> create();
  virtual ~FusedAttention() = default;

  virtual std::string version() const = 0;  // "9.19.0"
  // Makes the plan of a shape unless there is one: about half a second of compilation. Unsupported:
  // what cuDNN has no kernel for. The answer is kept.
  virtual Status prepare(const FusedAttentionShape& shape) = 0;
  // Bytes of the workspace of every shape prepared so far.
  virtual int64_t workspace_bytes() const = 0;
  // Row i of the output is softmax(scales q_i k^T / sqrt(head_dim)) v over the keys up to its own:
  // products of float16 with float32 sums, scores in float32, probabilities rounded to float16.
  // Allocates nothing when the buffers are those of the shape's last run. Equal input gives equal
  // bits.
  virtual Status run(const FusedAttentionShape& shape, const FusedAttentionBuffers& buffers,
                     cudaStream_t stream) = 0;
};

// The version of the cuDNN that create() would use, or why there is none. Needs no device.
Result<std::string> cudnn_version();

}  // namespace abq::runtime::cuda
