// What a decoding block makes of its inputs before it can start: queries as A operand, the new key
// and value as the cache keeps them.
#pragma once

#include "runtime/cuda/attention/attention_arguments.h"
#include "runtime/cuda/attention/cached_values.cuh"
#include "runtime/cuda/attention/head_rows.cuh"

namespace abq::runtime::cuda {

inline constexpr int kDecodeWarps = 4;
inline constexpr int kDecodeHeads = 8;  // query heads of a block
inline constexpr int kWarpTokens = 16;

struct DecodeArguments {
  AttentionLayer layer;
  AttentionInput input;
  const SequenceState* sequences;
  int64_t layer_offset;
  float score_scale;  // log2(e) / sqrt(D)
  int group;          // query heads of a kv head
  int head_tiles;     // of a kv head
  int part_stride;    // parts that the workspace has room for
  float* parts;       // [m][heads][part_stride][padded]: sums of 2^(score - top) value
  float2* part_sums;  // [m][heads][part_stride]: top, sum of 2^(score - top)
};

template <int kPadded, int kStored>
struct DecodeShared {
  static constexpr int kRowWords = cache_row_bytes(kPadded, kStored) / 4;
  static constexpr int kOutputStride = kPadded + 4;
  // A operands: [k step][rounded, rest][lane] holds k 2t, 2t + 1 and 2t + 8, 2t + 9 of row g.
  uint2 queries[kPadded / 16][2][32];
  uint32_t new_rows[2][kRowWords];   // the new key and value as the cache keeps them
  float2 rotations[2][kPadded / 2];  // cosine and sine of a pair: of queries, of keys
  float outputs[kDecodeWarps][kDecodeHeads][kOutputStride];
  float2 sums[kDecodeWarps][kDecodeHeads];
  float2 new_params[2];
  float query_scales[kDecodeHeads];
  uint16_t stage[kDecodeWarps][kPadded];
};

// A rotated and transformed head of the queries as A operand, in rows `row` and `row` + 8 of
// `queries`.
template <int kPadded, int kStored>
__device__ __forceinline__ void prepare_query(const AttentionLayer& layer, HeadRow<kPadded / 64> q,
                                              int row, int lane,
                                              DecodeShared<kPadded, kStored>& shared) {
  // Codes are exact as they are; floats are brought to 2^10 .. 2^11, where their rests are normal.
  float scale = 1.0f;
  if (layer.query_bits <= 8) {
    const TokenGrid grid = head_grid(q, layer.query_bits);
    to_codes(q, grid, static_cast<float>(grid.zero));
    scale = grid.scale;
  } else {
    float most = 0.0f;
#pragma unroll
    for (int i = 0; i < kPadded / 64; ++i)
      most = fmaxf(most, fmaxf(fabsf(q.low[i]), fabsf(q.high[i])));
    most = warp_largest(most);
    const int exponent = static_cast<int>(__float_as_uint(most) >> 23) - 127;
    const int shift = min(max(10 - exponent, -100), 100);
    const float factor = __uint_as_float(static_cast<uint32_t>(127 + shift) << 23);
    scale = __uint_as_float(static_cast<uint32_t>(127 - shift) << 23);
#pragma unroll
    for (int i = 0; i < kPadded / 64; ++i) {
      q.low[i] *= factor;
      q.high[i] *= factor;
    }
  }
  if (lane == 0) shared.query_scales[row] = scale;
  __half* const halves = reinterpret_cast<__half*>(shared.queries);
  for_elements<kPadded>(q, layer.head_dim, lane, [&](int d, float value) {
    const KeySlot slot = key_slot(d, kPadded, kStored);
    const int at =
        ((slot.pair / 2 * 2 * 32 + 4 * row + slot.t) * 2 + slot.pair % 2) * 2 + slot.half;
    const __half rounded = __float2half_rn(value);
    halves[at] = rounded;
    halves[at + 32 * 4] = __float2half_rn(value - __half2float(rounded));
  });
}

// The new key (which = 0, rotated and transformed) or value (1): to the cache if `write`, and to
// shared memory for this block.
template <int kPadded, int kStored>
__device__ __forceinline__ void prepare_token(const AttentionLayer& layer,
                                              const HeadRow<kPadded / 64>& row, int which,
                                              int64_t position, bool write, CacheRows cache,
                                              uint16_t* stage, int lane,
                                              DecodeShared<kPadded, kStored>& shared) {
  const float2 params = encode_row<kPadded>(row, layer.head_dim, layer.kv_bits, stage, lane);
  __syncwarp();
  constexpr int kRowWords = DecodeShared<kPadded, kStored>::kRowWords;
  uint32_t* const target = reinterpret_cast<uint32_t*>(cache.rows) + position * kRowWords;
  for (int word = lane; word < kRowWords; word += 32) {
    const uint32_t bits = packed_word(stage, kStored, word);
    shared.new_rows[which][word] = bits;
    if (write) target[word] = bits;
  }
  if (lane == 0) {
    shared.new_params[which] = params;
    if (kStored < 16 && write) cache.params[position] = params;
  }
}

// What a block makes before its inputs are there: cosines and sines of its position, for the pairs
// of queries, then those of keys.
template <int kPadded>
struct PairRotations {
  static constexpr int kHalf = kPadded / 2;
  static constexpr int kPerThread = (kPadded + 32 * kDecodeWarps - 1) / (32 * kDecodeWarps);
  float frequencies[kPerThread];

  __device__ __forceinline__ void load(const AttentionLayer& layer) {
#pragma unroll
    for (int n = 0; n < kPerThread; ++n) {
      const int i = static_cast<int>(threadIdx.x) + n * 32 * kDecodeWarps;
      const float* const from = i < kHalf ? layer.query_frequencies : layer.key_frequencies;
      const bool used = i < kPadded && from != nullptr && i % kHalf < layer.head_dim / 2;
      frequencies[n] = used ? from[i % kHalf] : 0.0f;
    }
  }
  __device__ __forceinline__ void store(int64_t position, float2 (*rotations)[kHalf]) const {
#pragma unroll
    for (int n = 0; n < kPerThread; ++n) {
      const int i = static_cast<int>(threadIdx.x) + n * 32 * kDecodeWarps;
      if (i >= kPadded) continue;
      const Rotation r = rotation(position, frequencies[n]);
      rotations[i / kHalf][i % kHalf] = make_float2(r.cosine, r.sine);
    }
  }
};

// Rows of `queries` without a head must be finite, no more.
template <int kPadded, int kStored>
__device__ __forceinline__ void clear_unused_queries(int heads,
                                                     DecodeShared<kPadded, kStored>& shared) {
  if (heads == kDecodeHeads) return;
  const int thread = static_cast<int>(threadIdx.x);
  constexpr int kEntries = kPadded / 16 * 2 * 32;
#pragma unroll 1
  for (int i = thread; i < kEntries; i += 32 * kDecodeWarps) {
    if (i % 32 / 4 >= heads) shared.queries[i / 64][i / 32 % 2][i % 32] = make_uint2(0, 0);
  }
  if (thread >= heads && thread < kDecodeHeads) shared.query_scales[thread] = 0.0f;
}

// A block's rows, dealt to its warps as tasks: the new key, the new value, then the query heads.
// Null beyond the last.
__device__ __forceinline__ const float* task_row(const DecodeArguments& args, int task,
                                                 int64_t sequence, int kv_head, int first_head,
                                                 int heads) {
  const AttentionInput& input = args.input;
  const int64_t head_dim = args.layer.head_dim;
  if (task == 0) return input.k + sequence * input.k_stride + kv_head * head_dim;
  if (task == 1) return input.v + sequence * input.v_stride + kv_head * head_dim;
  if (task >= heads + 2) return nullptr;
  return input.q + sequence * input.q_stride + (first_head + task - 2) * head_dim;
}

template <int kPairs>
__device__ __forceinline__ void rotate_head(HeadRow<kPairs>& row, const float2* rotations, int half,
                                            int lane) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int j = lane + 32 * i;
    if (j >= half) continue;
    const float2 r = rotations[j];
    rotate_pair({r.x, r.y}, row.low[i], row.high[i]);
  }
}

}  // namespace abq::runtime::cuda
