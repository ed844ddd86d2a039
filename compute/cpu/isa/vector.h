// Vectors of the level under compilation, in GCC's portable vector notation. Included only by the
// kernels_<level>.cpp files, which define ABQ_ISA_NAMESPACE; see compute/cpu/kernels.h for the
// rules.
#pragma once

#include <stdint.h>
#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace abq::compute::ABQ_ISA_NAMESPACE {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kMicroRows = 14;  // 28 accumulators of 32 registers
#elif defined(__AVX2__)
constexpr int kLanes = 8;
constexpr int kMicroRows = 6;  // 12 accumulators of 16 registers
#else
constexpr int kLanes = 4;
constexpr int kMicroRows = 6;
#endif
constexpr int kMicroVectors = 2;
constexpr int kMicroCols = kMicroVectors * kLanes;

template <int kCount>
struct VectorOf {
  typedef float Float __attribute__((vector_size(kCount * 4)));
  typedef int32_t Int __attribute__((vector_size(kCount * 4)));
  typedef uint32_t Uint __attribute__((vector_size(kCount * 4)));
  typedef uint16_t Half __attribute__((vector_size(kCount * 2)));
};
using Float = VectorOf<kLanes>::Float;
using Int = VectorOf<kLanes>::Int;

// The storage of the two 16-bit formats, as types that select the conversion.
struct F16 {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};

template <class To, class From>
inline To bits_of(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

template <int kCount = kLanes>
inline typename VectorOf<kCount>::Float load(const float* p) {
  typename VectorOf<kCount>::Float v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <int kCount>
inline typename VectorOf<kCount>::Uint load_widened(const void* p) {
#if defined(__AVX512F__)
  // GCC 12 widens 16 elements in two halves; the masked forms here and below, whose full mask costs
  // nothing, are those that do not trip its -Wmaybe-uninitialized.
  if constexpr (kCount == 16) {
    const __m256i narrow = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return bits_of<typename VectorOf<kCount>::Uint>(_mm512_maskz_cvtepu16_epi32(0xffff, narrow));
  }
#endif
  typename VectorOf<kCount>::Half half;
  __builtin_memcpy(&half, p, sizeof half);
  return __builtin_convertvector(half, typename VectorOf<kCount>::Uint);
}

template <int kCount = kLanes>
inline typename VectorOf<kCount>::Float load(const Bf16* p) {
  return bits_of<typename VectorOf<kCount>::Float>(load_widened<kCount>(p) << 16);
}

template <int kCount = kLanes>
inline typename VectorOf<kCount>::Float load(const F16* p) {
#if defined(__AVX512F__)
  if constexpr (kCount == 16) {
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
#endif
#if defined(__F16C__)
  if constexpr (kCount == 8) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  if constexpr (kCount == 4) {
    return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
#else
  // Exponent and mantissa moved into place are the value times 2^-112, subnormals included; an
  // exponent of all ones must stay so.
  using FloatN = typename VectorOf<kCount>::Float;
  using UintN = typename VectorOf<kCount>::Uint;
  const UintN half = load_widened<kCount>(p);
  const UintN magnitude = half & 0x7fffu;
  const FloatN scaled = bits_of<FloatN>(magnitude << 13) * 0x1p112f;
  const UintN special = magnitude >= 0x7c00u ? UintN{} + 0x7f800000u : UintN{};
  return bits_of<FloatN>(bits_of<UintN>(scaled) | special | ((half & 0x8000u) << 16));
#endif
}

inline void store(float* p, Float v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// The first `count` < kLanes elements; the other lanes are zero.
template <class T>
inline Float load_partial(const T* p, int64_t count) {
  T buffer[kLanes] = {};
  __builtin_memcpy(buffer, p, static_cast<size_t>(count) * sizeof(T));
  return load(buffer);
}

inline void store_partial(float* p, Float v, int64_t count) {
  __builtin_memcpy(p, &v, static_cast<size_t>(count) * sizeof(float));
}

template <class T>
inline float load_one(const T* p) {
  return load_partial(p, 1)[0];
}

// x - 0 is x for every x, so this is one broadcast; 0 + x would be an addition, because of -0.
inline Float broadcast(float value) {
  return value - Float{};
}

// Lanes are combined in halves: always the same order.
inline float sum_lanes(Float v) {
  float lane[kLanes];
  store(lane, v);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i)
      lane[i] += lane[i + half];
  }
  return lane[0];
}

inline float max_lanes(Float v) {
  float best = v[0];
  for (int i = 1; i < kLanes; ++i)
    best = v[i] > best ? v[i] : best;
  return best;
}

// ln 2 in two parts: n * kLn2High is exact for the exponents n of float32.
constexpr float kLn2High = 0.693359375f;
constexpr float kLn2Low = -2.12194440054690583e-4f;

// e^x to about 1 ulp on [-87.3, 88]; arguments outside are clamped to that range, NaN stays NaN.
// x = n ln2 + r with |r| <= ln2 / 2, e^r by a Taylor polynomial whose remainder r^8 / 8! is below
// half an ulp, 2^n by the exponent bits.
inline Float exp(Float x) {
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kRounder = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  x = x < -87.3f ? broadcast(-87.3f) : x;
  x = x > 88.0f ? broadcast(88.0f) : x;
  const Float rounded = x * kLog2E + kRounder;
  const Float n = rounded - kRounder;
  const Float r = (x - n * kLn2High) - n * kLn2Low;
  Float p = broadcast(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * (r * r) + r;
  p = p + 1.0f;
  const Int exponent = bits_of<Int>(rounded) - bits_of<int32_t>(kRounder);
  return p * bits_of<Float>((exponent + 127) << 23);
}

// ln x to about 2 ulp for normal x > 0; anything for other arguments. x = 2^n m with m in
// [sqrt(1/2), sqrt(2)); ln m = 2 artanh s with s = (m - 1) / (m + 1), |s| < 0.172, by its series,
// whose remainder 2 s^11 / 11 is below 2^-27 of ln m.
inline Float log(Float x) {
  constexpr int32_t kSqrtHalf = 0x3f3504f3;
  const Int bits = bits_of<Int>(x);
  const Int exponent = (bits - kSqrtHalf) >> 23;
  const Float m = bits_of<Float>(bits - (exponent << 23));
  const Float n = __builtin_convertvector(exponent, Float);
  const Float s = (m - 1.0f) / (m + 1.0f);
  const Float square = s * s;
  Float p = broadcast(2.0f / 9);
  p = p * square + 2.0f / 7;
  p = p * square + 2.0f / 5;
  p = p * square + 2.0f / 3;
  p = p * square * s + 2.0f * s;
  return n * kLn2High + (n * kLn2Low + p);
}

}  // namespace
}  // namespace abq::compute::ABQ_ISA_NAMESPACE
