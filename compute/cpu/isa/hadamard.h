// The fast Walsh-Hadamard transform of rows: k rounds of sums and differences, then the mixing of a
// segment's 2^k-long parts by a small matrix of 1 and -1, then the scale. Every element is made by
// the same additions in the same order on every level: products with 1 and -1 are exact, fused or
// not, so that levels agree in every bit.
#pragma once

#include "compute/cpu/isa/vector_loop.h"

namespace abq::compute::ABQ_ISA_NAMESPACE {
namespace {

#if defined(__AVX512F__)
#define ABQ_EACH_LANE(f)                                                                         \
  f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), \
      f(15)
#elif defined(__AVX2__)
#define ABQ_EACH_LANE(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)
#else
#define ABQ_EACH_LANE(f) f(0), f(1), f(2), f(3)
#endif
#define ABQ_PARTNER(lane) ((lane) ^ kDistance)
#define ABQ_SIGN(lane) (((lane)&kDistance) != 0 ? -1.0f : 1.0f)

// Lane i and lane i + kDistance become their sum and their difference.
template <int kDistance>
inline Float butterfly(Float v) {
  constexpr Int partner = {ABQ_EACH_LANE(ABQ_PARTNER)};
  constexpr Float sign = {ABQ_EACH_LANE(ABQ_SIGN)};
  return __builtin_shuffle(v, partner) + v * sign;
}

#undef ABQ_EACH_LANE
#undef ABQ_PARTNER
#undef ABQ_SIGN

// The rounds whose partners are lanes of one vector. A ragged end holds whole segments of them.
inline void rounds_within_vectors(float* x, int64_t count, int64_t length) {
  if (length == 1) return;
  for_vectors(count, [&](int64_t i, const auto& access) {
    Float v = butterfly<1>(access.load(x + i));
    if (length > 2) v = butterfly<2>(v);
    if constexpr (kLanes > 4) {
      if (length > 4) v = butterfly<4>(v);
    }
    if constexpr (kLanes > 8) {
      if (length > 8) v = butterfly<8>(v);
    }
    access.store(x + i, v);
  });
}

// The others, two at a time: distances h and 2h.
inline void rounds_across_vectors(float* x, int64_t count, int64_t length) {
  int64_t h = kLanes;
  for (; 4 * h <= length; h *= 4) {
    for (int64_t first = 0; first < count; first += 4 * h) {
      for (float* p = x + first; p < x + first + h; p += kLanes) {
        const Float a = load(p), b = load(p + h), c = load(p + 2 * h), d = load(p + 3 * h);
        const Float s = a + b, t = a - b, u = c + d, v = c - d;
        store(p, s + u);
        store(p + h, t + v);
        store(p + 2 * h, s - u);
        store(p + 3 * h, t - v);
      }
    }
  }
  if (2 * h > length) return;
  for (int64_t first = 0; first < count; first += 2 * h) {
    for (float* p = x + first; p < x + first + h; p += kLanes) {
      const Float a = load(p), b = load(p + h);
      store(p, a + b);
      store(p + h, a - b);
    }
  }
}

// y[i, s] = scale * sum over j, ascending, of mix[i, j] x[j, s], for one segment.
inline void mix_parts(const HadamardRow& row, const float* x, float* y) {
  constexpr int kRows = 4;  // orders are multiples of it
  for (int64_t i = 0; i < row.order; i += kRows) {
    const float* const signs = row.mix + i * row.order;
    for_vectors(row.length, [&](int64_t s, const auto& access) {
      Float sum[kRows] = {};
      for (int64_t j = 0; j < row.order; ++j) {
        const Float v = access.load(x + j * row.length + s);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r)
          sum[r] += v * signs[r * row.order + j];
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
        access.store(y + (i + r) * row.length + s, sum[r] * row.scale);
    });
  }
}

void hadamard(const HadamardRow& row) {
  rounds_within_vectors(row.x, row.count, row.length);
  rounds_across_vectors(row.x, row.count, row.length);
  if (row.order == 1) {
    for_vectors(row.count, [&](int64_t i, const auto& access) {
      access.store(row.x + i, access.load(row.x + i) * row.scale);
    });
    return;
  }
  const int64_t size = row.order * row.length;
  for (float* segment = row.x; segment < row.x + row.count; segment += size) {
    mix_parts(row, segment, row.scratch);
    __builtin_memcpy(segment, row.scratch, static_cast<size_t>(size) * sizeof(float));
  }
}

}  // namespace
}  // namespace abq::compute::ABQ_ISA_NAMESPACE
