// The KV cache of one attention step of one sequence.
//
// At 16 bits keys and values are kept in float32 as computed. Below, each token's D values of a
// head are quantized as docs/quantization.md says (per token and head, asymmetric) and kept as a
// packed little-endian bit stream of D codes, with a float32 scale and a uint8 zero point.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "quant/affine.h"
#include "support/matrix_view.h"

namespace abq::runtime {

// Rows [tokens, heads * D] of keys or values.
class KvStore {
 public:
  // Memory follows what is written: a long context costs nothing before it is used.
  KvStore(int bits, int heads, int head_dim, int64_t capacity);

  // Stores rows at token positions first, first + 1, ...
  void write(int64_t first, MatrixView<const float> rows);
  // Rows 0..tokens-1 as float32: the store itself at 16 bits, else dequantized into `scratch`.
  MatrixView<const float> read(int64_t tokens, std::vector<float>& scratch) const;
  // Bytes once all of the capacity is written.
  int64_t memory_bytes() const;

 private:
  int64_t head_bytes() const { return (static_cast<int64_t>(head_dim_) * bits_ + 7) / 8; }
  void make_room(int64_t tokens);

  int bits_;
  int heads_;
  int head_dim_;
  int64_t capacity_;
  std::vector<float> floats_;
  std::vector<uint8_t> codes_;
  std::vector<quant::AffineParams> params_;  // [tokens, heads]
};

struct KvCache {
  KvStore keys;
  KvStore values;
  int64_t memory_bytes() const { return keys.memory_bytes() + values.memory_bytes(); }
};

// Scratch that the attention steps of a session share.
struct AttentionScratch {
  std::vector<float> queries;
  std::vector<float> keys;
  std::vector<float> values;
};

}  // namespace abq::runtime
