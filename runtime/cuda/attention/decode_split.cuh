// Decoding, first launch: one block takes one part of one sequence for up to eight query heads of
// one kv head. It rotates and quantizes the queries, and where its part holds the new token, writes
// that to the cache; then each warp runs an online softmax over its own tokens, 16 at a time.
//
// Eight heads are the rows 0..7 of a 16-row product. Rows 8..15 hold what float16 rounded off them,
// so that queries and probabilities enter with float32's accuracy: only keys and values round, as
// the cache keeps them. Codes minus zero point are integers, exact in float16.
#pragma once

#include "runtime/cuda/attention/attention_arguments.h"
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

// One kv head of one sequence's cache.
struct CacheRows {
  std::byte* rows;
  float2* params;
};
struct CacheHead {
  CacheRows keys;
  CacheRows values;
};

__device__ __forceinline__ CacheHead cache_head(const SequenceState& sequence, int64_t layer_offset,
                                                const CacheLayout& layout, int head) {
  std::byte* const base = sequence.cache + sequence.capacity * layer_offset;
  return {{base + layout.rows_at(false, head),
           reinterpret_cast<float2*>(base + layout.params_at(false, head))},
          {base + layout.rows_at(true, head),
           reinterpret_cast<float2*>(base + layout.params_at(true, head))}};
}

// Copies kBytes from device memory (past the first-level cache) or shared memory to registers.
template <int kBytes, bool kShared>
__device__ __forceinline__ void load_piece(const std::byte* from, uint32_t* words) {
  if constexpr (kBytes == 16) {
    const uint4* const p = reinterpret_cast<const uint4*>(from);
    const uint4 v = kShared ? *p : __ldcg(p);
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
  } else if constexpr (kBytes == 8) {
    const uint2* const p = reinterpret_cast<const uint2*>(from);
    const uint2 v = kShared ? *p : __ldcg(p);
    words[0] = v.x, words[1] = v.y;
  } else if constexpr (kBytes == 4) {
    const uint32_t* const p = reinterpret_cast<const uint32_t*>(from);
    words[0] = kShared ? *p : __ldcg(p);
  } else {
    const unsigned short* const p = reinterpret_cast<const unsigned short*>(from);
    words[0] = kShared ? *p : __ldcg(p);
  }
}

// What a lane holds of 16 tokens (cache_layout.h).
template <int kPadded, int kStored>
struct TokenTile {
  static constexpr int kRowBytes = cache_row_bytes(kPadded, kStored);
  static constexpr int kKeyPiece = key_piece_bytes(kRowBytes);
  static constexpr int kKeyPieces = kRowBytes / 4 / kKeyPiece;
  static constexpr int kKeyWords = kRowBytes / 16;
  static constexpr int kValuePiece = value_piece_bytes(kRowBytes);
  static constexpr int kValuePieces = kRowBytes / 8 / kValuePiece;
  static constexpr int kValueWords = kRowBytes < 32 ? 1 : kRowBytes / 32;

  uint32_t keys[2][kKeyWords];      // tokens g, 8 + g
  uint32_t values[4][kValueWords];  // tokens 2t, 2t + 1, 8 + 2t, 9 + 2t
  float2 key_params;                // of token `lane` % 16
  float2 value_params;

  static __device__ __forceinline__ int value_token(int i, int t) {
    return i / 2 * 8 + 2 * t + i % 2;
  }

  template <bool kShared>
  __device__ __forceinline__ void load_key(int r, const std::byte* row, int t) {
#pragma unroll
    for (int p = 0; p < kKeyPieces; ++p)
      load_piece<kKeyPiece, kShared>(row + (p * 4 + t) * kKeyPiece, keys[r] + p * kKeyPiece / 4);
  }
  template <bool kShared>
  __device__ __forceinline__ void load_value(int i, const std::byte* row, int g) {
#pragma unroll
    for (int p = 0; p < kValuePieces; ++p)
      load_piece<kValuePiece, kShared>(row + (p * 8 + g) * kValuePiece,
                                       values[i] + p * kValuePiece / 4);
  }

  // Tokens first .. first + 15; those from `end` on repeat the last.
  __device__ __forceinline__ void load_keys(const CacheRows& cache, int first, int end, int lane) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int token = min(first + 8 * r + lane / 4, end - 1);
      load_key<false>(r, cache.rows + static_cast<int64_t>(token) * kRowBytes, lane % 4);
    }
    if constexpr (kStored < 16) key_params = __ldcg(cache.params + min(first + lane % 16, end - 1));
  }
  __device__ __forceinline__ void load_values(const CacheRows& cache, int first, int end,
                                              int lane) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = min(first + value_token(i, lane % 4), end - 1);
      load_value<false>(i, cache.rows + static_cast<int64_t>(token) * kRowBytes, lane / 4);
    }
    if constexpr (kStored < 16)
      value_params = __ldcg(cache.params + min(first + lane % 16, end - 1));
  }
  // Puts the new token, which is not in memory yet, where it belongs.
  template <class Shared>
  __device__ __forceinline__ void insert_new(const Shared& shared, int first, int end, int lane) {
    const std::byte* const key = reinterpret_cast<const std::byte*>(shared.new_rows[0]);
    const std::byte* const value = reinterpret_cast<const std::byte*>(shared.new_rows[1]);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (first + 8 * r + lane / 4 >= end - 1) load_key<true>(r, key, lane % 4);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (first + value_token(i, lane % 4) >= end - 1) load_value<true>(i, value, lane / 4);
    }
    if (first + lane % 16 >= end - 1) {
      key_params = shared.new_params[0];
      value_params = shared.new_params[1];
    }
  }
};

// Pair `i` of the codes in a word, minus the zero points: code i and the code 16 bits above it.
// `offset` holds 1024 + zero for both. Words of float16 are the pair itself.
template <int kStored>
__device__ __forceinline__ uint32_t code_pair(uint32_t word, int i, __half2 offset) {
  if constexpr (kStored == 16) {
    return word;
  } else {
    constexpr uint32_t kMask = 0x00010001u * ((1u << kStored) - 1u);
    // 0x6400 is 1024 in float16, whose last bits count ones.
    const uint32_t shifted = ((word >> (kStored * i)) & kMask) | 0x64006400u;
    const __half2 difference = __hsub2(*reinterpret_cast<const __half2*>(&shifted), offset);
    return *reinterpret_cast<const uint32_t*>(&difference);
  }
}
__device__ __forceinline__ __half2 code_offset(float zero_low, float zero_high) {
  return __floats2half2_rn(1024.0f + zero_low, 1024.0f + zero_high);
}
__device__ __forceinline__ uint32_t half_pair(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ float rounding_rest(float x) {
  return x - __half2float(__float2half_rn(x));
}

// Score of token 8 r + 2t + x for head g in s[r][x], as a sum over codes minus zero points.
template <int kPadded, int kStored>
__device__ __forceinline__ void dot_keys(const TokenTile<kPadded, kStored>& tile,
                                         const uint2 (*queries)[2][32], int lane,
                                         float (&s)[2][2]) {
  constexpr int kPerWord = 16 / kStored;
  float c[2][4] = {};
  __half2 offsets[2] = {};
  if constexpr (kStored < 16) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float zero = __shfl_sync(kAllLanes, tile.key_params.y, 8 * r + lane / 4);
      offsets[r] = code_offset(zero, zero);
    }
  }
#pragma unroll
  for (int step = 0; step < kPadded / 16; ++step) {
    const uint2 rounded = queries[step][0][lane];
    const uint2 rest = queries[step][1][lane];
    const uint32_t a[4] = {rounded.x, rest.x, rounded.y, rest.y};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      uint32_t b[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int pair = 2 * step + i;
        b[i] = code_pair<kStored>(tile.keys[r][pair / kPerWord], pair % kPerWord, offsets[r]);
      }
      half_mma(c[r], a, b[0], b[1]);
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    s[r][0] = c[r][0] + c[r][2];
    s[r][1] = c[r][1] + c[r][3];
  }
}

// The state of a warp's softmax: rows are heads. A value's scale is 2^exponent * mantissa; the
// exponent takes part in the search for the top, so that what enters the product is at most 2
// whatever the scales are.
template <int kPadded>
struct OnlineSums {
  float top = -INFINITY;
  float sum = 0.0f;  // this lane's share
  float output[kPadded / 8][4] = {};

  __device__ __forceinline__ void rescale(float new_top) {
    const float factor = power_of_two(top - new_top);
    sum *= factor;
#pragma unroll
    for (int f = 0; f < kPadded / 8; ++f) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        output[f][i] *= factor;
    }
    top = new_top;
  }
};

struct ScaleParts {
  float exponent;
  float mantissa;
  float inverse_power;  // 2^-exponent
};
__device__ __forceinline__ ScaleParts split_scale(float scale) {
  const uint32_t bits = __float_as_uint(scale);
  const int biased = static_cast<int>(bits >> 23);
  return {static_cast<float>(biased - 127), __uint_as_float((bits & 0x7fffffu) | 0x3f800000u),
          __uint_as_float(static_cast<uint32_t>(254 - biased) << 23)};
}

// Turns scores (base 2) into probabilities as A operand, rounded in rows 0..7, the rest below.
template <int kPadded, int kStored>
__device__ __forceinline__ void probabilities(const TokenTile<kPadded, kStored>& tile,
                                              const float (&s)[2][2], int lane,
                                              OnlineSums<kPadded>& sums, uint32_t (&a)[4]) {
  ScaleParts parts[2][2];
  float raised[2][2];
  float top = sums.top;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int x = 0; x < 2; ++x) {
      raised[r][x] = s[r][x];
      if constexpr (kStored < 16) {
        const int token = 8 * r + 2 * (lane % 4) + x;
        parts[r][x] = split_scale(__shfl_sync(kAllLanes, tile.value_params.x, token));
        raised[r][x] += parts[r][x].exponent;
      }
      top = fmaxf(top, raised[r][x]);
    }
  }
  top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
  top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
  sums.rescale(top);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float p[2];
#pragma unroll
    for (int x = 0; x < 2; ++x) {
      p[x] = power_of_two(raised[r][x] - top);
      if constexpr (kStored < 16) {
        sums.sum += p[x] * parts[r][x].inverse_power;
        p[x] *= parts[r][x].mantissa;
      } else {
        sums.sum += p[x];
      }
    }
    a[2 * r] = half_pair(p[0], p[1]);
    a[2 * r + 1] = half_pair(rounding_rest(p[0]), rounding_rest(p[1]));
  }
}

template <int kPadded, int kStored>
__device__ __forceinline__ void add_values(const TokenTile<kPadded, kStored>& tile,
                                           const uint32_t (&a)[4], int lane,
                                           OnlineSums<kPadded>& sums) {
  constexpr int kPerUnit = 16 / kStored;
  __half2 offsets[2] = {};
  if constexpr (kStored < 16) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int token = 8 * r + 2 * (lane % 4);
      const float low = __shfl_sync(kAllLanes, tile.value_params.y, token);
      const float high = __shfl_sync(kAllLanes, tile.value_params.y, token + 1);
      offsets[r] = code_offset(low, high);
    }
  }
#pragma unroll
  for (int unit = 0; unit < kPadded / 8 / kPerUnit; ++unit) {
    uint32_t pairs[2];  // 16 bits of either token
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      pairs[r] = __byte_perm(tile.values[2 * r][unit / 2], tile.values[2 * r + 1][unit / 2],
                             unit % 2 == 0 ? 0x5410 : 0x7632);
    }
#pragma unroll
    for (int i = 0; i < kPerUnit; ++i) {
      half_mma(sums.output[unit * kPerUnit + i], a, code_pair<kStored>(pairs[0], i, offsets[0]),
               code_pair<kStored>(pairs[1], i, offsets[1]));
    }
  }
}

// Head `head` of the queries as A operand, in rows `row` and `row` + 8 of `queries`.
template <int kPadded, int kStored>
__device__ __forceinline__ void prepare_query(const AttentionLayer& layer, const float* x, int row,
                                              int64_t position, int lane,
                                              DecodeShared<kPadded, kStored>& shared) {
  const int half = layer.head_dim / 2;
  HeadRow<kPadded / 64> q = load_head<kPadded / 64>(x, half, lane);
  if (layer.query_frequencies != nullptr)
    rotate_head(q, layer.query_frequencies, position, half, lane);
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

// The new key (which = 0) or value (1): to the cache, and to shared memory for this block.
template <int kPadded, int kStored>
__device__ __forceinline__ void prepare_token(const DecodeArguments& args, const float* x,
                                              int which, int64_t position, bool write,
                                              const CacheRows& cache, uint16_t* stage, int lane,
                                              DecodeShared<kPadded, kStored>& shared) {
  const AttentionLayer& layer = args.layer;
  const int half = layer.head_dim / 2;
  HeadRow<kPadded / 64> row = load_head<kPadded / 64>(x, half, lane);
  if (which == 0 && layer.key_frequencies != nullptr)
    rotate_head(row, layer.key_frequencies, position, half, lane);
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

// The warps' sums, added in the order of the warps, to the workspace.
template <int kPadded, int kStored>
__device__ __forceinline__ void write_part(const DecodeArguments& args,
                                           const DecodeShared<kPadded, kStored>& shared,
                                           int64_t first_head, int heads, int part) {
  for (int i = static_cast<int>(threadIdx.x); i < heads * kPadded; i += 32 * kDecodeWarps) {
    const int head = i / kPadded;
    const int d = i % kPadded;
    float top = -INFINITY;
    for (int w = 0; w < kDecodeWarps; ++w)
      top = fmaxf(top, shared.sums[w][head].x);
    float output = 0.0f;
    float sum = 0.0f;
    for (int w = 0; w < kDecodeWarps; ++w) {
      const float2 sums = shared.sums[w][head];
      if (sums.x == -INFINITY) continue;  // a warp without tokens
      const float factor = power_of_two(sums.x - top);
      output += factor * shared.outputs[w][head][d];
      sum += factor * sums.y;
    }
    const int64_t at = (first_head + head) * args.part_stride + part;
    args.parts[at * kPadded + d] = output;
    if (d == 0) args.part_sums[at] = make_float2(top, sum);
  }
}

// Grid (parts, kv heads * head tiles, sequences).
template <int kPadded, int kStored>
__global__ void __launch_bounds__(32 * kDecodeWarps) decode_split(const DecodeArguments args) {
  using Shared = DecodeShared<kPadded, kStored>;
  Shared& shared = *reinterpret_cast<Shared*>(dynamic_shared());
  const AttentionLayer& layer = args.layer;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int kv_head = static_cast<int>(blockIdx.y) / args.head_tiles;
  const int head_tile = static_cast<int>(blockIdx.y) % args.head_tiles;
  const int group = layer.heads / layer.kv_heads;
  const int first_head = kv_head * group + head_tile * kDecodeHeads;
  const int heads = min(kDecodeHeads, group - head_tile * kDecodeHeads);
  const int64_t sequence_index = blockIdx.z;
  const int part = static_cast<int>(blockIdx.x);

  release_next();
  wait_for_previous();
  const SequenceState sequence = args.sequences[sequence_index];
  const SplitPlan plan = plan_splits(sequence.position, layer.window, layer.kv_heads);
  if (part >= plan.parts) return;
  const int begin = plan.begin + part * plan.part;
  const int end = min(plan.end, begin + plan.part);
  const bool holds_new = end == plan.end;
  const CacheLayout layout =
      cache_layout(layer.kv_heads, layer.head_dim, layer.kv_bits, sequence.capacity);
  const CacheHead cache = cache_head(sequence, args.layer_offset, layout, kv_head);

  // The first tokens are under way while the queries are made.
  TokenTile<kPadded, kStored> tile;
  int first = begin + warp * kWarpTokens;
  if (first < end) {
    tile.load_keys(cache.keys, first, end, lane);
    tile.load_values(cache.values, first, end, lane);
  }

  const float* const q = args.input.q + sequence_index * args.input.q_stride;
  const int64_t kv_column = static_cast<int64_t>(kv_head) * layer.head_dim;
  for (int task = warp; task < kDecodeHeads + 2; task += kDecodeWarps) {
    // Key and value first: they take longest.
    if (task < 2) {
      const float* const x = task == 0
                                 ? args.input.k + sequence_index * args.input.k_stride + kv_column
                                 : args.input.v + sequence_index * args.input.v_stride + kv_column;
      if (holds_new)
        prepare_token(args, x, task, sequence.position, head_tile == 0,
                      task == 0 ? cache.keys : cache.values, shared.stage[warp], lane, shared);
    } else if (task - 2 < heads) {
      prepare_query(layer, q + static_cast<int64_t>(first_head + task - 2) * layer.head_dim,
                    task - 2, sequence.position, lane, shared);
    } else {
      // Rows without a head must be finite, no more.
      const int row = task - 2;
      for (int i = lane; i < kPadded / 16 * 2 * 4; i += 32)
        shared.queries[i / 8][i / 4 % 2][4 * row + i % 4] = make_uint2(0, 0);
      if (lane == 0) shared.query_scales[row] = 0.0f;
    }
  }
  __syncthreads();

  OnlineSums<kPadded> sums;
  const float query_scale = shared.query_scales[lane / 4] * args.score_scale;
  for (; first < end; first += kWarpTokens * kDecodeWarps) {
    const int next = first + kWarpTokens * kDecodeWarps;
    if (holds_new && first + kWarpTokens >= end) tile.insert_new(shared, first, end, lane);
    float s[2][2];
    dot_keys(tile, shared.queries, lane, s);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        const int token = 8 * r + 2 * (lane % 4) + x;
        float scale = query_scale;
        if constexpr (kStored < 16) scale *= __shfl_sync(kAllLanes, tile.key_params.x, token);
        s[r][x] = first + token < end ? s[r][x] * scale : -INFINITY;
      }
    }
    if (next < end) tile.load_keys(cache.keys, next, end, lane);
    uint32_t a[4];
    probabilities(tile, s, lane, sums, a);
    add_values(tile, a, lane, sums);
    if (next < end) tile.load_values(cache.values, next, end, lane);
  }

  sums.sum += __shfl_xor_sync(kAllLanes, sums.sum, 1);
  sums.sum += __shfl_xor_sync(kAllLanes, sums.sum, 2);
  const int g = lane / 4;
  if (lane % 4 == 0) shared.sums[warp][g] = make_float2(sums.top, sums.sum);
  if (g < heads && sums.top != -INFINITY) {
#pragma unroll
    for (int f = 0; f < kPadded / 8; ++f) {
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        const int d = value_element(f, 2 * (lane % 4) + x, kPadded, kStored);
        shared.outputs[warp][g][d] = sums.output[f][x] + sums.output[f][x + 2];
      }
    }
  }
  __syncthreads();
  write_part(args, shared, sequence_index * layer.heads + first_head, heads, part);
}

}  // namespace abq::runtime::cuda
