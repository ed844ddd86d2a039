// Where keys and values lie in a sequence's cache, and which of them a lane of a decoding warp
// holds. Index arithmetic alone, the same on host and device.
//
// One layer:  [key rows][value rows][key params][value params]
//   rows    [kv head][capacity][row], a row being the padded head's values in order, element d of
//           `stored` bits at bit d * stored (little-endian; float16 at 16)
//   params  [kv head][capacity] pairs (scale, zero) of float32; absent at 16 bits
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define ABQ_INDEX __host__ __device__ constexpr
#else
#define ABQ_INDEX constexpr
#endif

namespace abq::runtime::cuda {

inline constexpr int kMaxHeadDim = 256;

// Rows are padded to what the kernels are built for.
ABQ_INDEX int padded_head_dim(int head_dim) {
  return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256;
}
// Bits that a code of `bits` takes.
ABQ_INDEX int stored_bits(int bits) {
  return bits > 8 ? 16 : bits > 4 ? 8 : bits > 2 ? 4 : 2;
}
ABQ_INDEX int cache_row_bytes(int padded, int stored) {
  return padded * stored / 8;
}

struct CacheLayout {
  int kv_heads = 0;
  int row_bytes = 0;
  bool has_params = false;
  int64_t capacity = 0;

  // Offsets in bytes from the layer's start; `values` = false for keys.
  ABQ_INDEX int64_t rows_at(bool values, int head) const {
    return (static_cast<int64_t>(values ? kv_heads : 0) + head) * capacity * row_bytes;
  }
  ABQ_INDEX int64_t params_at(bool values, int head) const {
    return 2 * kv_heads * capacity * row_bytes +
           (static_cast<int64_t>(values ? kv_heads : 0) + head) * capacity * 8;
  }
  ABQ_INDEX int64_t token_bytes() const {
    return static_cast<int64_t>(kv_heads) * 2 * (row_bytes + (has_params ? 8 : 0));
  }
};

ABQ_INDEX CacheLayout cache_layout(int kv_heads, int head_dim, int kv_bits, int64_t capacity) {
  const int stored = stored_bits(kv_bits);
  return {kv_heads, cache_row_bytes(padded_head_dim(head_dim), stored), stored < 16, capacity};
}

// A decoding warp takes 16 tokens at a time. Lane 4 g + t (g < 8, t < 4) holds of the keys of
// tokens g and 8 + g the pieces t, and of the values of tokens 2t, 2t + 1, 8 + 2t and 9 + 2t the
// pieces g. Both come in loads of up to 16 bytes and are B operands of mma m16n8k16 as they lie.

// Bytes of one load of a key row by a lane, and of a value row.
ABQ_INDEX int key_piece_bytes(int row_bytes) {
  return row_bytes / 4 < 16 ? row_bytes / 4 : 16;
}
ABQ_INDEX int value_piece_bytes(int row_bytes) {
  return row_bytes / 8 < 16 ? row_bytes / 8 : 16;
}

// The pairs of codes of a key row, in the order of a lane's B registers: pair e of lane piece t is
// register e % 2 of k step e / 2, and `half` its low or high float16.
struct KeySlot {
  int t = 0;
  int pair = 0;
  int half = 0;
};
ABQ_INDEX KeySlot key_slot(int d, int padded, int stored) {
  // Unsigned: devices divide by powers of two with a shift then.
  const unsigned piece_words =
      static_cast<unsigned>(key_piece_bytes(cache_row_bytes(padded, stored))) / 4;
  const unsigned pairs =
      16u / static_cast<unsigned>(stored);  // of a word; code c goes with c + pairs
  const unsigned word = static_cast<unsigned>(d) / (2 * pairs);
  const unsigned code = static_cast<unsigned>(d) % (2 * pairs);
  const unsigned lane_word = word / (4 * piece_words) * piece_words + word % piece_words;
  return {static_cast<int>(word / piece_words % 4),
          static_cast<int>(lane_word * pairs + code % pairs), static_cast<int>(code / pairs)};
}

// The element of a value row that output tile `tile` (8 columns) has in column g. 16-bit units of
// a row hold 16 / stored codes; a lane takes its units in order.
ABQ_INDEX int value_element(int tile, int g, int padded, int stored) {
  const int piece_units = value_piece_bytes(cache_row_bytes(padded, stored)) / 2;
  const int codes = 16 / stored;
  const int unit = tile / codes;
  const int row_unit = (unit / piece_units * 8 + g) * piece_units + unit % piece_units;
  return row_unit * codes + tile % codes;
}

// How a sequence's visible tokens are split over blocks. It depends on the position and the layer
// alone, never on the batch or on a bound that the caller chose: results do not either.
inline constexpr int kSplitTokens = 64;  // parts are whole multiples of this
struct SplitPlan {
  int begin = 0;  // first visible token
  int end = 0;    // position + 1
  int part = 0;   // tokens of one part
  int parts = 0;
};
ABQ_INDEX int most_splits(int kv_heads) {
  // About 384 blocks: all of them run at once, and their loads in flight keep the memory busy.
  const int parts = 384 / kv_heads;
  return parts < 4 ? 4 : parts > 64 ? 64 : parts;
}
ABQ_INDEX SplitPlan plan_splits(int64_t position, int64_t window, int kv_heads) {
  const int64_t end = position + 1;
  const int64_t begin = window > 0 && end > window ? end - window : 0;
  // In 32 bits: kernels wait for these divisions.
  const uint32_t units = (static_cast<uint32_t>(end - begin) + kSplitTokens - 1) / kSplitTokens;
  const uint32_t most = static_cast<uint32_t>(most_splits(kv_heads));
  const uint32_t part_units = (units + most - 1) / most;
  return {static_cast<int>(begin), static_cast<int>(end),
          static_cast<int>(part_units * kSplitTokens),
          static_cast<int>((units + part_units - 1) / part_units)};
}
// Most parts of any position below `max_tokens`.
ABQ_INDEX int split_bound(int64_t max_tokens, int64_t window, int kv_heads) {
  const int64_t span = window > 0 && window < max_tokens ? window : max_tokens;
  const int64_t parts = (span + kSplitTokens - 1) / kSplitTokens;
  const int most = most_splits(kv_heads);
  return parts < 1 ? 1 : parts < most ? static_cast<int>(parts) : most;
}

// A tile of rows of `columns` float16 in shared memory: 16-byte chunk c of row r lies at this
// index, so that eight rows' chunks of one column fall into different banks.
ABQ_INDEX int swizzled_chunk(int row, int chunk, int columns) {
  return row * (columns / 8) + (chunk ^ (row & 7));
}

}  // namespace abq::runtime::cuda
