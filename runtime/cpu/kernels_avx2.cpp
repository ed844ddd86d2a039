// AVX2: bytes are multiplied with vpmaddubsw (activation codes unsigned, weights signed), exact
// because 2 * 255 * |w| stays below 2^15 for |w| <= 64; 8-bit weights go through 16-bit products.
#include "runtime/cpu/expand_avx2.h"
#include "runtime/cpu/gemm_avx2.h"
#include "runtime/cpu/kernels_shared.h"

namespace abq::runtime {
namespace {

// Bytes ahead of the stream of weights that are asked for.
constexpr int kPrefetchBytes = 1536;

template <int P>
inline void prefetch(const uint8_t* block) {
  for (int line = 0; line < P; ++line)
    _mm_prefetch(reinterpret_cast<const char*>(block) + kPrefetchBytes + 64 * line, _MM_HINT_T0);
}

inline int32_t horizontal_sum(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  return _mm_cvtsi128_si32(s);
}

inline float horizontal_sum(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  s = _mm_add_ss(s, _mm_movehdup_ps(s));
  return _mm_cvtss_f32(s);
}

inline __m256i widen_pairs(__m256i products) {
  return _mm256_madd_epi16(products, _mm256_set1_epi16(1));
}

// sum of w x over the Parts parts of 32 codes starting at `first`, eight int32 lanes.
template <int P, int Parts>
inline __m256i multiply_parts(const __m256i* w, const uint8_t* x, int first) {
  __m256i products[Parts];
  for (int i = 0; i < Parts; ++i)
    products[i] = _mm256_maddubs_epi16(load256(x + 32 * (first + i)), w[first + i]);
  if constexpr (Parts == 1) return widen_pairs(products[0]);
  if constexpr (Parts == 2) {
    if constexpr (P <= 5) return widen_pairs(_mm256_add_epi16(products[0], products[1]));
    return _mm256_add_epi32(widen_pairs(products[0]), widen_pairs(products[1]));
  }
  if constexpr (Parts == 4) {
    const __m256i a = P <= 5 ? widen_pairs(_mm256_add_epi16(products[0], products[1]))
                             : _mm256_add_epi32(widen_pairs(products[0]), widen_pairs(products[1]));
    const __m256i b = P <= 5 ? widen_pairs(_mm256_add_epi16(products[2], products[3]))
                             : _mm256_add_epi32(widen_pairs(products[2]), widen_pairs(products[3]));
    if constexpr (P <= 4) {
      return widen_pairs(_mm256_add_epi16(_mm256_add_epi16(products[0], products[1]),
                                          _mm256_add_epi16(products[2], products[3])));
    }
    return _mm256_add_epi32(a, b);
  }
}

// The same for 8-bit weights (code - 128), through 16-bit products.
template <int Parts>
inline __m256i multiply_parts8(const uint8_t* w, const uint8_t* x, int first) {
  __m256i sum = _mm256_setzero_si256();
  for (int i = 2 * first; i < 2 * (first + Parts); ++i) {
    const __m256i w16 =
        _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 16 * i)));
    const __m256i x16 =
        _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 16 * i)));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w16, x16));
  }
  return sum;
}

// The weights of one row and unit, expanded once and used against several tokens.
template <int P>
struct UnitWeights {
  explicit UnitWeights(const uint8_t* unit) : packed(unit) {
    if constexpr (P < 8) expand_unit<P>(unit, w);
    if constexpr (P == 7) {
      for (__m256i& part : w)
        part = _mm256_sub_epi8(part, _mm256_set1_epi8(64));
    }
  }
  template <int Parts>
  __m256i times(const uint8_t* x, int first) const {
    if constexpr (P == 8) {
      return multiply_parts8<Parts>(packed, x, first);
    } else {
      return multiply_parts<P, Parts>(w, x, first);
    }
  }
  const uint8_t* packed;
  __m256i w[4];
};

template <int P, int T>
void dot_tokens(const DotArgs& a, const uint8_t* x, int32_t* sums) {
  __m256i acc[T][kBlockRows];
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < kBlockRows; ++r)
      acc[t][r] = _mm256_setzero_si256();
  const uint8_t* w = a.weights;
  for (int64_t u = 0; u < a.units; ++u, w += 64 * P, x += kUnitCodes) {
    prefetch<P>(w);
    for (int r = 0; r < kBlockRows; ++r) {
      const UnitWeights<P> unit(w + 16 * P * r);
      for (int t = 0; t < T; ++t)
        acc[t][r] = _mm256_add_epi32(acc[t][r], unit.template times<4>(x + t * a.token_stride, 0));
    }
  }
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < kBlockRows; ++r)
      sums[t * kBlockRows + r] = horizontal_sum(acc[t][r]);
}

template <int P>
void dot(const DotArgs& a, int32_t* sums) {
  const uint8_t* x = static_cast<const uint8_t*>(a.tokens);
  int t = 0;
  for (; t + 2 <= a.count; t += 2)
    dot_tokens<P, 2>(a, x + t * a.token_stride, sums + t * kBlockRows);
  if (t < a.count) dot_tokens<P, 1>(a, x + t * a.token_stride, sums + t * kBlockRows);
}

template <int P, int Groups, int T>
void grouped_dot_tokens(const DotArgs& a, const uint8_t* x, float* sums) {
  constexpr int kParts = 4 / Groups;
  __m256 acc[T][kBlockRows];
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < kBlockRows; ++r)
      acc[t][r] = _mm256_setzero_ps();
  const uint8_t* w = a.weights;
  const float* scales = a.scales;
  for (int64_t u = 0; u < a.units; ++u, w += 64 * P, x += kUnitCodes) {
    prefetch<P>(w);
    for (int r = 0; r < kBlockRows; ++r, scales += Groups) {
      const UnitWeights<P> unit(w + 16 * P * r);
      for (int g = 0; g < Groups; ++g) {
        const __m256 scale = _mm256_broadcast_ss(scales + g);
        for (int t = 0; t < T; ++t) {
          const __m256i sum = unit.template times<kParts>(x + t * a.token_stride, g * kParts);
          acc[t][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, acc[t][r]);
        }
      }
    }
  }
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < kBlockRows; ++r)
      sums[t * kBlockRows + r] = horizontal_sum(acc[t][r]);
}

template <int P, int Groups>
void grouped_dot(const DotArgs& a, float* sums) {
  const uint8_t* x = static_cast<const uint8_t*>(a.tokens);
  int t = 0;
  for (; t + 2 <= a.count; t += 2)
    grouped_dot_tokens<P, Groups, 2>(a, x + t * a.token_stride, sums + t * kBlockRows);
  if (t < a.count) {
    grouped_dot_tokens<P, Groups, 1>(a, x + t * a.token_stride, sums + t * kBlockRows);
  }
}

// sum of w d over the Parts parts starting at `first` for one digit, eight int32 lanes. Codes are
// the unsigned operand here (they are below 128), digits the signed one.
template <int P, int Parts>
inline __m256i multiply_digit(const __m256i* w, const int8_t* digit, int first) {
  // Pairs of products that an int16 holds: 2 chain (2^P - 1) 128 < 2^15.
  constexpr int kMaxChain = P <= 5 ? 4 : P == 6 ? 2 : 1;
  constexpr int kChain = kMaxChain < Parts ? kMaxChain : Parts;
  __m256i total = _mm256_setzero_si256();
  for (int i = first; i < first + Parts; i += kChain) {
    __m256i sum = _mm256_maddubs_epi16(w[i], load256(digit + 32 * i));
    for (int j = i + 1; j < i + kChain; ++j)
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[j], load256(digit + 32 * j)));
    total = _mm256_add_epi32(total, widen_pairs(sum));
  }
  return total;
}

inline __m256i widen_bytes(const void* p) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

// The same for 8-bit weights (code - 128), through 16-bit products.
template <int Parts>
inline __m256i multiply_digit8(const uint8_t* w, const int8_t* digit, int first) {
  __m256i total = _mm256_setzero_si256();
  for (int i = 2 * first; i < 2 * (first + Parts); ++i) {
    const __m256i products =
        _mm256_madd_epi16(widen_bytes(w + 16 * i), widen_bytes(digit + 16 * i));
    total = _mm256_add_epi32(total, products);
  }
  return total;
}

// sum of w x in steps over Parts parts.
template <int P, int Parts>
inline __m256 multiply_fixed(const uint8_t* packed, const __m256i* w, const int8_t* x, int first) {
  __m256 sums[3];
  for (int d = 0; d < 3; ++d) {
    const int8_t* digit = x + d * kUnitCodes;
    if constexpr (P == 8) {
      sums[d] = _mm256_cvtepi32_ps(multiply_digit8<Parts>(packed, digit, first));
    } else {
      sums[d] = _mm256_cvtepi32_ps(multiply_digit<P, Parts>(w, digit, first));
    }
  }
  const __m256 low = _mm256_fmadd_ps(sums[1], _mm256_set1_ps(256.0f), sums[0]);
  return _mm256_fmadd_ps(sums[2], _mm256_set1_ps(65536.0f), low);
}

// Groups = 0: per channel, no scale.
template <int P, int Groups, int T>
void float_dot_tokens(const DotArgs& a, int token, float* sums) {
  constexpr int kSums = Groups == 0 ? 1 : Groups;
  constexpr int kParts = 4 / kSums;
  __m256 acc[kBlockRows][T];
  for (int r = 0; r < kBlockRows; ++r)
    for (int t = 0; t < T; ++t)
      acc[r][t] = _mm256_setzero_ps();
  const uint8_t* w = a.weights;
  const float* scales = a.scales;
  const int8_t* x = static_cast<const int8_t*>(a.tokens) + token * a.token_stride;
  const float* steps = a.token_steps + token * a.token_steps_stride;
  for (int64_t u = 0; u < a.units; ++u, w += 64 * P, x += kDigitBytes, ++steps) {
    prefetch<P>(w);
    for (int r = 0; r < kBlockRows; ++r, scales += Groups) {
      const uint8_t* packed = w + 16 * P * r;
      __m256i parts[4];
      if constexpr (P < 8) expand_unit<P>(packed, parts);
      for (int g = 0; g < kSums; ++g) {
        for (int t = 0; t < T; ++t) {
          const __m256 sum =
              multiply_fixed<P, kParts>(packed, parts, x + t * a.token_stride, g * kParts);
          __m256 factor = _mm256_broadcast_ss(steps + t * a.token_steps_stride);
          if constexpr (Groups != 0)
            factor = _mm256_mul_ps(factor, _mm256_broadcast_ss(scales + g));
          acc[r][t] = _mm256_fmadd_ps(sum, factor, acc[r][t]);
        }
      }
    }
  }
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < kBlockRows; ++r)
      sums[t * kBlockRows + r] = horizontal_sum(acc[r][t]);
}

template <int P, int Groups>
void float_dot(const DotArgs& a, float* sums) {
  int t = 0;
  for (; t + 2 <= a.count; t += 2)
    float_dot_tokens<P, Groups, 2>(a, t, sums + t * kBlockRows);
  if (t < a.count) float_dot_tokens<P, Groups, 1>(a, t, sums + t * kBlockRows);
}

template <int P>
void expand_block(const uint8_t* block, int64_t units, int8_t* rows, int64_t stride) {
  for (int64_t u = 0; u < units; ++u) {
    for (int r = 0; r < kBlockRows; ++r) {
      __m256i parts[4];
      expand_unit<P>(block + (u * kBlockRows + r) * 16 * P, parts);
      for (int i = 0; i < 4; ++i) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows + r * stride + u * kUnitCodes + 32 * i),
                            parts[i]);
      }
    }
  }
}

void min_max(const float* values, int64_t count, float* low, float* high) {
  __m256 lo = _mm256_setzero_ps();
  __m256 hi = _mm256_setzero_ps();
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 v = _mm256_loadu_ps(values + i);
    lo = _mm256_min_ps(v, lo);
    hi = _mm256_max_ps(v, hi);
  }
  alignas(32) float lows[8], highs[8];
  _mm256_store_ps(lows, lo);
  _mm256_store_ps(highs, hi);
  for (int l = 1; l < 8; ++l) {
    lows[0] = lows[l] < lows[0] ? lows[l] : lows[0];
    highs[0] = highs[l] > highs[0] ? highs[l] : highs[0];
  }
  for (; i < count; ++i) {
    lows[0] = values[i] < lows[0] ? values[i] : lows[0];
    highs[0] = values[i] > highs[0] ? values[i] : highs[0];
  }
  *low = lows[0];
  *high = highs[0];
}

// Eight codes as int32: round to even, as the processor's default mode does.
inline __m256i quantize_eight(__m256 v, __m256 scale, __m256i zero, __m256i max_code) {
  const __m256i code = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_div_ps(v, scale)), zero);
  return _mm256_max_epi32(_mm256_min_epi32(code, max_code), _mm256_setzero_si256());
}

void quantize(const float* values, int64_t count, float scale, int zero, int max_code,
              uint8_t* codes) {
  const __m256 s = _mm256_set1_ps(scale);
  const __m256i z = _mm256_set1_epi32(zero);
  const __m256i top = _mm256_set1_epi32(max_code);
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i a = quantize_eight(_mm256_loadu_ps(values + i), s, z, top);
    const __m256i b = quantize_eight(_mm256_loadu_ps(values + i + 8), s, z, top);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
    const __m128i bytes =
        _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), bytes);
  }
  for (; i < count; ++i) {
    alignas(32) int32_t lanes[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes),
                       quantize_eight(_mm256_set1_ps(values[i]), s, z, top));
    codes[i] = static_cast<uint8_t>(lanes[0]);
  }
}

// Bits set in each byte of v (W. Mula's nibble table).
inline __m256i popcount_bytes(__m256i v) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(15);
  return _mm256_add_epi8(
      _mm256_shuffle_epi8(table, _mm256_and_si256(v, low)),
      _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low)));
}

int64_t bit_dot(const uint8_t* w, int w_planes, const uint8_t* x, int x_planes, int64_t bytes) {
  int64_t total = 0;
  for (int i = 0; i < w_planes; ++i) {
    for (int j = 0; j < x_planes; ++j) {
      const uint8_t* a = w + i * bytes;
      const uint8_t* b = x + j * bytes;
      __m256i count = _mm256_setzero_si256();
      for (int64_t at = 0; at < bytes; at += 64) {
        const __m256i low = popcount_bytes(_mm256_and_si256(load256(a + at), load256(b + at)));
        const __m256i high =
            popcount_bytes(_mm256_and_si256(load256(a + at + 32), load256(b + at + 32)));
        count = _mm256_add_epi64(
            count, _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256()));
      }
      alignas(32) int64_t lanes[4];
      _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), count);
      total += (lanes[0] + lanes[1] + lanes[2] + lanes[3]) << (i + j);
    }
  }
  return total;
}

template <int P>
void fill_width(Kernels& k) {
  k.dot[P] = dot<P>;
  k.grouped_dot[P][0] = grouped_dot<P, 1>;
  k.grouped_dot[P][1] = grouped_dot<P, 2>;
  k.grouped_dot[P][2] = grouped_dot<P, 4>;
  k.float_dot[P][0] = float_dot<P, 0>;
  k.float_dot[P][1] = float_dot<P, 1>;
  k.float_dot[P][2] = float_dot<P, 2>;
  k.float_dot[P][3] = float_dot<P, 4>;
  k.expand[P] = expand_block<P>;
  k.dot_centre[P] = P == 8 ? 128 : P == 7 ? 64 : 0;
  k.float_centre[P] = k.expand_centre[P] = P == 8 ? 128 : 0;
  if constexpr (P < 8) fill_width<P + 1>(k);
}

Kernels make() {
  Kernels k = {};
  k.name = "avx2";
  k.gemm_min_tokens = 11;
  fill_width<1>(k);
  k.gemm_plan = avx2_gemm_plan;
  k.finish = finish_panel;
  k.zero_terms = zero_terms_of_block;
  k.dequantize = dequantize_row;
  k.min_max = min_max;
  k.quantize = quantize;
  k.sum32 = sum_by_32;
  k.split_floats = split_units;
  k.bit_dot = bit_dot;
  return k;
}

}  // namespace

const Kernels& avx2_kernels() {
  static const Kernels kernels = make();
  return kernels;
}

}  // namespace abq::runtime
