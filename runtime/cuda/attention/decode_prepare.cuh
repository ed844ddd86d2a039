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
  uint32_t new_rows[2][kRowWords];  // the new key and value as the cache keeps them
  float outputs[kDecodeWarps][kDecodeHeads][kOutputStride];
  float2 sums[kDecodeWarps][kDecodeHeads];
  float2 new_params[2];
  float query_scales[kDecodeHeads];
  uint16_t stage[kDecodeWarps][kPadded];
};

// A rotated head of the queries as A operand, in rows `row` and `row` + 8 of `queries`.
template <int kPadded, int kStored>
__device__ __forceinline__ void prepare_query(const AttentionLayer& layer,
                                              const HeadRow<kPadded / 64>& q, int row, int lane,
                                              DecodeShared<kPadded, kStored>& shared) {
  // Codes are exact as they are; floats are brought to 2^10 .. 2^11, where their rests are normal.
  const bool coded = layer.query_bits <= 8;
  compute::cuda::CodeGrid grid{1.0f, 0.0f, 0.0f, false};
  float factor = 1.0f;
  float scale = 1.0f;
  if (coded) {
    grid = head_grid(q, layer.query_bits);
    scale = grid.scale;
  } else {
    float most = 0.0f;
#pragma unroll
    for (int i = 0; i < kPadded / 64; ++i)
      most = fmaxf(most, fmaxf(fabsf(q.low[i]), fabsf(q.high[i])));
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, step));
    const int exponent = static_cast<int>(__float_as_uint(most) >> 23) - 127;
    const int shift = min(max(10 - exponent, -100), 100);
    factor = __uint_as_float(static_cast<uint32_t>(127 + shift) << 23);
    scale = __uint_as_float(static_cast<uint32_t>(127 - shift) << 23);
  }
  if (lane == 0) shared.query_scales[row] = scale;
  __half* const halves = reinterpret_cast<__half*>(shared.queries);
  for_elements<kPadded>(q, layer.head_dim, lane, [&](int d, float v) {
    float value = v * factor;
    if (coded) value = d < layer.head_dim ? code_of(v, grid) - grid.zero : 0.0f;
    const KeySlot slot = key_slot(d, kPadded, kStored);
    const int at =
        ((slot.pair / 2 * 2 * 32 + 4 * row + slot.t) * 2 + slot.pair % 2) * 2 + slot.half;
    const __half rounded = __float2half_rn(value);
    halves[at] = rounded;
    halves[at + 32 * 4] = __float2half_rn(value - __half2float(rounded));
  });
}

// The new key (which = 0, rotated) or value (1): to the cache if `write`, and to shared memory for
// this block.
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

// A block's tasks before the loop, dealt to its warps: new key, new value, then the query heads.
template <int kPadded>
struct DecodeTask {
  HeadRow<kPadded / 64> row;
  HeadFrequencies<kPadded / 64> frequencies;

  __device__ __forceinline__ void load_constants(const AttentionLayer& layer, int task, int lane) {
    const float* const from = task == 0   ? layer.key_frequencies
                              : task == 1 ? nullptr
                                          : layer.query_frequencies;
    frequencies = load_frequencies<kPadded / 64>(from, layer.head_dim / 2, lane);
  }
  __device__ __forceinline__ void load_row(const DecodeArguments& args, int task, int64_t sequence,
                                           int kv_head, int first_head, int heads, int lane) {
    const int64_t head_dim = args.layer.head_dim;
    const float* from = nullptr;
    if (task == 0) from = args.input.k + sequence * args.input.k_stride + kv_head * head_dim;
    if (task == 1) from = args.input.v + sequence * args.input.v_stride + kv_head * head_dim;
    if (task >= 2 && task - 2 < heads)
      from = args.input.q + sequence * args.input.q_stride + (first_head + task - 2) * head_dim;
    row = load_head<kPadded / 64>(from, args.layer.head_dim / 2, lane);
  }
};

}  // namespace abq::runtime::cuda
