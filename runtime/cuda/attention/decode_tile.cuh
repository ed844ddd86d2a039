// Sixteen tokens of a cache in the registers of a decoding warp: loads, scores, probabilities and
// their product with the values (cache_layout.h says which lane holds what).
//
// Up to eight query heads are the rows 0..7 of a 16-row product. Rows 8..15 hold what float16
// rounded off them, so that queries and probabilities enter with float32's accuracy: only keys and
// values round, as the cache keeps them.
#pragma once

#include "runtime/cuda/attention/cached_values.cuh"

namespace abq::runtime::cuda {

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

constexpr int kCacheLine = 128;

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
  // Brings 16 tokens as far as the second-level cache: lanes 0..15 their keys, the others values.
  static __device__ __forceinline__ void prefetch_tokens(const CacheHead& cache, int first, int end,
                                                         int lane) {
    const std::byte* const rows = lane < 16 ? cache.keys.rows : cache.values.rows;
    const float2* const params = lane < 16 ? cache.keys.params : cache.values.params;
    const int token = min(first + lane % 16, end - 1);
    const std::byte* const row = rows + static_cast<int64_t>(token) * kRowBytes;
#pragma unroll
    for (int at = 0; at < kRowBytes; at += kCacheLine)
      prefetch(row + at);
    if constexpr (kStored < 16) prefetch(params + token);
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
__device__ __forceinline__ float rounding_rest(float x) {
  return x - __half2float(__float2half_rn(x));
}

// Score of token 8 r + 2t + x for head g in s[r][x], as a sum over codes minus zero points.
template <int kPadded, int kStored>
__device__ __forceinline__ void dot_keys(const TokenTile<kPadded, kStored>& tile,
                                         const uint2 (*queries)[2][32], int lane,
                                         float (&s)[2][2]) {
  constexpr int kPerWord = 16 / kStored;
  float c[2][2][4] = {};  // even and odd steps apart: each product waits for the one before
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
      half_mma(c[step % 2][r], a, b[0], b[1]);
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    s[r][0] = (c[0][r][0] + c[1][r][0]) + (c[0][r][2] + c[1][r][2]);
    s[r][1] = (c[0][r][1] + c[1][r][1]) + (c[0][r][3] + c[1][r][3]);
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

}  // namespace abq::runtime::cuda
