// Expansion of one unit of weight codes (kernels.h) with AVX2, for the AVX2 translation units only.
#pragma once

#include <immintrin.h>

#include "runtime/cpu/kernels.h"

namespace abq::runtime {
namespace {

inline __m256i load256(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

// Bits of each byte moved right by S (left by -S); neighbours' bits come along and are masked
// later.
template <int S>
inline __m256i shift_bits(__m256i v) {
  if constexpr (S > 0) return _mm256_srli_epi16(v, S);
  if constexpr (S < 0) return _mm256_slli_epi16(v, -S);
  return v;
}

// Codes 32 I .. 32 I + 31 of the unit, less 128 for P = 8.
template <int P, int I>
inline __m256i expand_part(const uint8_t* unit) {
  if constexpr (P == 8) {
    return load256(unit + 32 * I);
  } else {
    __m256i out = _mm256_setzero_si256();
    constexpr int kBase2 = (P & 4) != 0 ? 4 : 0;
    constexpr int kBase1 = kBase2 + ((P & 2) != 0 ? 2 : 0);
    if constexpr ((P & 4) != 0) {
      const __m256i v = load256(unit + 32 * (I % 2));
      out = _mm256_and_si256(shift_bits<I / 2 * 4>(v), _mm256_set1_epi8(15));
      unit += 64;
    }
    if constexpr ((P & 2) != 0) {
      const __m256i v = shift_bits<2 * I - kBase2>(load256(unit));
      out = _mm256_or_si256(out, _mm256_and_si256(v, _mm256_set1_epi8(3 << kBase2)));
      unit += 32;
    }
    if constexpr ((P & 1) != 0) {
      // Two runs of 16 codes: bit 2 I for the low half, bit 2 I + 1 for the high half.
      constexpr int kShift = 2 * I - kBase1;
      const __m256i both =
          _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(unit)));
      __m256i v;
      if constexpr (kShift >= 0) {
        v = _mm256_srlv_epi32(both, _mm256_setr_epi32(kShift, kShift, kShift, kShift, kShift + 1,
                                                      kShift + 1, kShift + 1, kShift + 1));
      } else {
        v = _mm256_sllv_epi32(
            both, _mm256_setr_epi32(-kShift, -kShift, -kShift, -kShift, -kShift - 1, -kShift - 1,
                                    -kShift - 1, -kShift - 1));
      }
      out = _mm256_or_si256(out, _mm256_and_si256(v, _mm256_set1_epi8(1 << kBase1)));
    }
    return out;
  }
}

template <int P>
inline void expand_unit(const uint8_t* unit, __m256i out[4]) {
  out[0] = expand_part<P, 0>(unit);
  out[1] = expand_part<P, 1>(unit);
  out[2] = expand_part<P, 2>(unit);
  out[3] = expand_part<P, 3>(unit);
}

}  // namespace
}  // namespace abq::runtime
