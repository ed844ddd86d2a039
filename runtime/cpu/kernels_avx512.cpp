// AVX-512 with VNNI and VPOPCNTDQ: vpdpbusd takes activation codes as unsigned and expanded weights
// as signed bytes and sums fours exactly in int32.
#include "runtime/cpu/expand_avx512.h"
#include "runtime/cpu/gemm_avx512.h"
#include "runtime/cpu/kernels_shared.h"

namespace abq::runtime {
namespace {

// Bytes ahead of the stream of weights that are asked for.
constexpr int kPrefetchBytes = 4096;

template <int P>
inline void prefetch(const uint8_t* block) {
  for (int line = 0; line < P; ++line)
    _mm_prefetch(reinterpret_cast<const char*>(block) + kPrefetchBytes + 64 * line, _MM_HINT_T0);
}

template <int P, int T>
void dot_tokens(const DotArgs& a, const uint8_t* x, int32_t* sums) {
  __m512i acc[T][kBlockRows];
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < kBlockRows; ++r)
      acc[t][r] = _mm512_setzero_si512();
  const uint8_t* w = a.weights;
  for (int64_t u = 0; u < a.units; ++u, w += 64 * P, x += kUnitCodes) {
    prefetch<P>(w);
    for (int r = 0; r < kBlockRows; ++r) {
      __m512i unit[2];
      expand_unit<P>(w + 16 * P * r, unit);
      for (int t = 0; t < T; ++t) {
        acc[t][r] = _mm512_dpbusd_epi32(acc[t][r], load512(x + t * a.token_stride), unit[0]);
        acc[t][r] = _mm512_dpbusd_epi32(acc[t][r], load512(x + t * a.token_stride + 64), unit[1]);
      }
    }
  }
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < kBlockRows; ++r)
      sums[t * kBlockRows + r] = _mm512_reduce_add_epi32(acc[t][r]);
}

template <int P>
void dot(const DotArgs& a, int32_t* sums) {
  const uint8_t* x = static_cast<const uint8_t*>(a.tokens);
  int t = 0;
  for (; t + 4 <= a.count; t += 4)
    dot_tokens<P, 4>(a, x + t * a.token_stride, sums + t * kBlockRows);
  for (; t + 2 <= a.count; t += 2)
    dot_tokens<P, 2>(a, x + t * a.token_stride, sums + t * kBlockRows);
  if (t < a.count) dot_tokens<P, 1>(a, x + t * a.token_stride, sums + t * kBlockRows);
}

// Scales of lanes 0-7 and 8-15 for half `half` (64 codes) of a row's unit.
template <int Groups>
inline __m512 half_scales(const float* scales, int half) {
  if constexpr (Groups <= 1) return _mm512_set1_ps(scales[0]);
  if constexpr (Groups == 2) return _mm512_set1_ps(scales[half]);
  return _mm512_insertf32x8(_mm512_set1_ps(scales[2 * half]), _mm256_set1_ps(scales[2 * half + 1]),
                            1);
}

template <int P, int Groups, int T>
void grouped_dot_tokens(const DotArgs& a, const uint8_t* x, float* sums) {
  __m512 acc[T][kBlockRows];
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < kBlockRows; ++r)
      acc[t][r] = _mm512_setzero_ps();
  const __m512i zero = _mm512_setzero_si512();
  const uint8_t* w = a.weights;
  const float* scales = a.scales;
  for (int64_t u = 0; u < a.units; ++u, w += 64 * P, x += kUnitCodes) {
    prefetch<P>(w);
    for (int r = 0; r < kBlockRows; ++r, scales += Groups) {
      __m512i unit[2];
      expand_unit<P>(w + 16 * P * r, unit);
      for (int t = 0; t < T; ++t) {
        const uint8_t* token = x + t * a.token_stride;
        __m512i sum = _mm512_dpbusd_epi32(zero, load512(token), unit[0]);
        if constexpr (Groups > 1) {
          acc[t][r] =
              _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), half_scales<Groups>(scales, 0), acc[t][r]);
          sum = zero;
        }
        sum = _mm512_dpbusd_epi32(sum, load512(token + 64), unit[1]);
        acc[t][r] =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), half_scales<Groups>(scales, 1), acc[t][r]);
      }
    }
  }
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < kBlockRows; ++r)
      sums[t * kBlockRows + r] = _mm512_reduce_add_ps(acc[t][r]);
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

// sum of w x in steps over the halves [First, Last) of a unit. Codes are the unsigned operand here,
// digits the signed one.
template <int First, int Last>
inline __m512 multiply_fixed(const __m512i* w, const int8_t* x) {
  __m512 sums[3];
  for (int d = 0; d < 3; ++d) {
    __m512i sum = _mm512_setzero_si512();
    for (int h = First; h < Last; ++h)
      sum = _mm512_dpbusd_epi32(sum, w[h], load512(x + d * kUnitCodes + 64 * h));
    sums[d] = _mm512_cvtepi32_ps(sum);
  }
  const __m512 low = _mm512_fmadd_ps(sums[1], _mm512_set1_ps(256.0f), sums[0]);
  return _mm512_fmadd_ps(sums[2], _mm512_set1_ps(65536.0f), low);
}

// acc + the unit's sums; Groups = 0: per channel, no scale.
template <int Groups>
inline __m512 add_unit(__m512 acc, const __m512i* w, const int8_t* x, float step,
                       const float* scales) {
  const __m512 steps = _mm512_set1_ps(step);
  if constexpr (Groups == 0) {
    return _mm512_fmadd_ps(multiply_fixed<0, 2>(w, x), steps, acc);
  } else if constexpr (Groups == 1) {
    const __m512 factor = _mm512_mul_ps(steps, half_scales<Groups>(scales, 0));
    return _mm512_fmadd_ps(multiply_fixed<0, 2>(w, x), factor, acc);
  } else {
    const __m512 low = _mm512_mul_ps(steps, half_scales<Groups>(scales, 0));
    const __m512 high = _mm512_mul_ps(steps, half_scales<Groups>(scales, 1));
    acc = _mm512_fmadd_ps(multiply_fixed<0, 1>(w, x), low, acc);
    return _mm512_fmadd_ps(multiply_fixed<1, 2>(w, x), high, acc);
  }
}

template <int P, int Groups, int T>
void float_dot_tokens(const DotArgs& a, int token, float* sums) {
  __m512 acc[kBlockRows][T];
  for (int r = 0; r < kBlockRows; ++r)
    for (int t = 0; t < T; ++t)
      acc[r][t] = _mm512_setzero_ps();
  const uint8_t* w = a.weights;
  const float* scales = a.scales;
  const int8_t* x = static_cast<const int8_t*>(a.tokens) + token * a.token_stride;
  const float* steps = a.token_steps + token * a.token_steps_stride;
  for (int64_t u = 0; u < a.units; ++u, w += 64 * P, x += kDigitBytes, ++steps) {
    prefetch<P>(w);
    for (int r = 0; r < kBlockRows; ++r, scales += Groups) {
      __m512i unit[2];
      expand_unit<P>(w + 16 * P * r, unit);
      if constexpr (P == 8) {
        // Back to unsigned codes.
        unit[0] = _mm512_xor_si512(unit[0], _mm512_set1_epi8(-128));
        unit[1] = _mm512_xor_si512(unit[1], _mm512_set1_epi8(-128));
      }
      for (int t = 0; t < T; ++t) {
        acc[r][t] = add_unit<Groups>(acc[r][t], unit, x + t * a.token_stride,
                                     steps[t * a.token_steps_stride], scales);
      }
    }
  }
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < kBlockRows; ++r)
      sums[t * kBlockRows + r] = _mm512_reduce_add_ps(acc[r][t]);
}

template <int P, int Groups>
void float_dot(const DotArgs& a, float* sums) {
  int t = 0;
  for (; t + 4 <= a.count; t += 4)
    float_dot_tokens<P, Groups, 4>(a, t, sums + t * kBlockRows);
  for (; t < a.count; ++t)
    float_dot_tokens<P, Groups, 1>(a, t, sums + t * kBlockRows);
}

template <int P>
void expand_block(const uint8_t* block, int64_t units, int8_t* rows, int64_t stride) {
  for (int64_t u = 0; u < units; ++u) {
    for (int r = 0; r < kBlockRows; ++r) {
      __m512i halves[2];
      expand_unit<P>(block + (u * kBlockRows + r) * 16 * P, halves);
      _mm512_storeu_si512(rows + r * stride + u * kUnitCodes, halves[0]);
      _mm512_storeu_si512(rows + r * stride + u * kUnitCodes + 64, halves[1]);
    }
  }
}

inline __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : (1 << count) - 1);
}

void min_max(const float* values, int64_t count, float* low, float* high) {
  __m512 lo = _mm512_setzero_ps();
  __m512 hi = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += 16) {
    const __m512 v = _mm512_maskz_loadu_ps(first_lanes(count - i), values + i);
    // The second operand is the result where v is NaN.
    lo = _mm512_min_ps(v, lo);
    hi = _mm512_max_ps(v, hi);
  }
  *low = _mm512_reduce_min_ps(lo);
  *high = _mm512_reduce_max_ps(hi);
}

void quantize(const float* values, int64_t count, float scale, int zero, int max_code,
              uint8_t* codes) {
  const __m512 s = _mm512_set1_ps(scale);
  const __m512i z = _mm512_set1_epi32(zero);
  const __m512i top = _mm512_set1_epi32(max_code);
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = first_lanes(count - i);
    const __m512 v = _mm512_maskz_loadu_ps(lanes, values + i);
    const __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_div_ps(v, s)), z);
    const __m512i bounded = _mm512_max_epi32(_mm512_min_epi32(code, top), _mm512_setzero_si512());
    _mm512_mask_cvtepi32_storeu_epi8(codes + i, lanes, bounded);
  }
}

int64_t bit_dot(const uint8_t* w, int w_planes, const uint8_t* x, int x_planes, int64_t bytes) {
  __m512i total = _mm512_setzero_si512();
  for (int i = 0; i < w_planes; ++i) {
    for (int j = 0; j < x_planes; ++j) {
      __m512i count = _mm512_setzero_si512();
      for (int64_t at = 0; at < bytes; at += 64) {
        const __m512i both =
            _mm512_and_si512(load512(w + i * bytes + at), load512(x + j * bytes + at));
        count = _mm512_add_epi64(count, _mm512_popcnt_epi64(both));
      }
      total = _mm512_add_epi64(total, _mm512_sll_epi64(count, _mm_cvtsi32_si128(i + j)));
    }
  }
  return _mm512_reduce_add_epi64(total);
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
  k.dot_centre[P] = k.expand_centre[P] = P == 8 ? 128 : 0;
  if constexpr (P < 8) fill_width<P + 1>(k);
}

Kernels make(const char* name, int gemm_min_tokens,
             GemmPlan (*gemm_plan)(int code_bits, int max_token_code, bool grouped)) {
  Kernels k = {};
  k.name = name;
  k.gemm_min_tokens = gemm_min_tokens;
  fill_width<1>(k);
  k.gemm_plan = gemm_plan;
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

const Kernels& avx512_kernels() {
  static const Kernels kernels = make("avx512", 12, avx512_gemm_plan);
  return kernels;
}

const Kernels& amx_kernels() {
  static const Kernels kernels = make("amx", 6, amx_gemm_plan);
  return kernels;
}

}  // namespace abq::runtime
