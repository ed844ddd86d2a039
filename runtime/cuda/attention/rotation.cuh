// Rotary embedding of one pair, as compute::Device::rope does it: the angle and its cosine and sine
// in float64, rounded once.
#pragma once

#include <cmath>
#include <cstdint>

#include "compute/cuda/portable_math.cuh"

namespace abq::runtime::cuda {

struct Rotation {
  float cosine;
  float sine;
};

// Reduced to [-pi/4, pi/4] and summed as Taylor series: the first terms left out are below 2^-46,
// so that the rounded values are the library's but for about one in a million.
ABQ_HOST_DEVICE Rotation rotation(int64_t position, float frequency) {
  const double angle = static_cast<double>(position) * static_cast<double>(frequency);
  const double turns = rint(angle * 0.63661977236758134308);
  const double rest =
      fma(-turns, 6.12323399573676603587e-17, fma(-turns, 1.57079632679489655800, angle));
  const double square = rest * rest;
  double sine = -1.0 / 1307674368000.0;
  sine = fma(sine, square, 1.0 / 6227020800.0);
  sine = fma(sine, square, -1.0 / 39916800.0);
  sine = fma(sine, square, 1.0 / 362880.0);
  sine = fma(sine, square, -1.0 / 5040.0);
  sine = fma(sine, square, 1.0 / 120.0);
  sine = fma(sine, square, -1.0 / 6.0);
  sine = fma(sine * square, rest, rest);
  double cosine = 1.0 / 20922789888000.0;
  cosine = fma(cosine, square, -1.0 / 87178291200.0);
  cosine = fma(cosine, square, 1.0 / 479001600.0);
  cosine = fma(cosine, square, -1.0 / 3628800.0);
  cosine = fma(cosine, square, 1.0 / 40320.0);
  cosine = fma(cosine, square, -1.0 / 720.0);
  cosine = fma(cosine, square, 1.0 / 24.0);
  cosine = fma(cosine, square, -0.5);
  cosine = fma(cosine, square, 1.0);
  const int quadrant = static_cast<int>(static_cast<int64_t>(turns) & 3);
  const double c = quadrant % 2 == 0 ? cosine : sine;
  const double s = quadrant % 2 == 0 ? sine : cosine;
  return {static_cast<float>(quadrant == 1 || quadrant == 2 ? -c : c),
          static_cast<float>(quadrant >= 2 ? -s : s)};
}

ABQ_HOST_DEVICE void rotate_pair(const Rotation& r, float& low, float& high) {
  using namespace compute::cuda;
  const float a = low;
  const float b = high;
  low = subtract_rn(multiply_rn(a, r.cosine), multiply_rn(b, r.sine));
  high = add_rn(multiply_rn(b, r.cosine), multiply_rn(a, r.sine));
}

}  // namespace abq::runtime::cuda
