// The one rounding of the project: to the nearest integer, halves to the even one.
#pragma once

namespace abq::quant {

// Equals std::nearbyint in the default rounding mode for |x| <= 2^22; above, the result is within
// one unit in the last place of x + 1.5 * 2^23 and keeps the sign and size of x, which is all that
// a clamp to at most 256 levels needs. NaN stays NaN. Two additions, because std::nearbyint is a
// library call below SSE4.1 and keeps loops from being vectorized; 1.5 * 2^23 is even, and at its
// size a float32 has no fraction bits left, so that the adder itself rounds half to even.
inline float round_half_even(float x) {
  constexpr float kShift = 0x1.8p23f;
  return (x + kShift) - kShift;
}

}  // namespace abq::quant
