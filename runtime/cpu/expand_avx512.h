// Expansion of one unit of weight codes (kernels.h) with AVX-512, for its translation units only.
#pragma once

#include <immintrin.h>

#include "runtime/cpu/kernels.h"

namespace abq::runtime {
namespace {

inline __m512i load512(const void* p) {
  return _mm512_loadu_si512(p);
}

// a | (b & mask) in one instruction.
inline __m512i or_masked(__m512i a, __m512i b, int mask) {
  return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi8(static_cast<char>(mask)), 0xf8);
}

// 32-bit lanes of quarter q of the register rotated right by first + q * step bits (modulo 32), so
// that one broadcast load gives four runs of codes.
template <int First, int Step>
inline __m512i rotate_quarters(__m512i v) {
  constexpr int kA = First & 31;
  constexpr int kB = (First + Step) & 31;
  constexpr int kC = (First + 2 * Step) & 31;
  constexpr int kD = (First + 3 * Step) & 31;
  return _mm512_rorv_epi32(
      v, _mm512_setr_epi32(kA, kA, kA, kA, kB, kB, kB, kB, kC, kC, kC, kC, kD, kD, kD, kD));
}

// The same for halves.
template <int First, int Step>
inline __m512i rotate_halves(__m512i v) {
  constexpr int kA = First & 31;
  constexpr int kB = (First + Step) & 31;
  return _mm512_rorv_epi32(
      v, _mm512_setr_epi32(kA, kA, kA, kA, kA, kA, kA, kA, kB, kB, kB, kB, kB, kB, kB, kB));
}

// Codes 0..63 and 64..127 of the unit, less 128 for P = 8.
template <int P>
inline void expand_unit(const uint8_t* unit, __m512i out[2]) {
  if constexpr (P == 8) {
    out[0] = load512(unit);
    out[1] = load512(unit + 64);
    return;
  }
  constexpr int kBase2 = (P & 4) != 0 ? 4 : 0;
  constexpr int kBase1 = kBase2 + ((P & 2) != 0 ? 2 : 0);
  out[0] = out[1] = _mm512_setzero_si512();
  if constexpr ((P & 4) != 0) {
    const __m512i v = load512(unit);
    const __m512i mask = _mm512_set1_epi8(15);
    out[0] = _mm512_and_si512(v, mask);
    out[1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
    unit += 64;
  }
  if constexpr ((P & 2) != 0) {
    const __m512i v =
        _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(unit)));
    out[0] = or_masked(out[0], rotate_halves<0 - kBase2, 2>(v), 3 << kBase2);
    out[1] = or_masked(out[1], rotate_halves<4 - kBase2, 2>(v), 3 << kBase2);
    unit += 32;
  }
  if constexpr ((P & 1) != 0) {
    const __m512i v =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(unit)));
    out[0] = or_masked(out[0], rotate_quarters<0 - kBase1, 1>(v), 1 << kBase1);
    out[1] = or_masked(out[1], rotate_quarters<4 - kBase1, 1>(v), 1 << kBase1);
  }
}

}  // namespace
}  // namespace abq::runtime
