#include "quant/rounding.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

using abq::quant::round_half_even;

TEST_CASE("halves go to the even neighbour") {
  CHECK(round_half_even(0.5f) == 0.0f);
  CHECK(round_half_even(1.5f) == 2.0f);
  CHECK(round_half_even(2.5f) == 2.0f);
  CHECK(round_half_even(-0.5f) == 0.0f);
  CHECK(round_half_even(-1.5f) == -2.0f);
  CHECK(round_half_even(-2.5f) == -2.0f);
}

TEST_CASE("rounding equals std::nearbyint on a sweep of all float32 up to 2^22") {
  int64_t differences = 0;
  const uint32_t end = std::bit_cast<uint32_t>(0x1p22f);
  for (uint32_t bits = 0; bits <= end; bits += 37) {
    const float x = std::bit_cast<float>(bits);
    differences += round_half_even(x) != std::nearbyint(x);
    differences += round_half_even(-x) != std::nearbyint(-x);
  }
  CHECK(differences == 0);
}

TEST_CASE("rounding equals std::nearbyint at every half and its neighbours up to 1024") {
  int64_t differences = 0;
  for (int twice = -2048; twice <= 2048; ++twice) {
    const float half = static_cast<float>(twice) / 2.0f;
    for (const float x : {std::nextafter(half, -INFINITY), half, std::nextafter(half, INFINITY)})
      differences += round_half_even(x) != std::nearbyint(x);
  }
  CHECK(differences == 0);
}

TEST_CASE("huge values keep their sign and stay beyond every level, NaN stays NaN") {
  for (const float x : {0x1p22f, 0x1p23f, 0x1p24f, 1e30f, std::numeric_limits<float>::max()}) {
    CHECK(round_half_even(x) >= 0x1p21f);
    CHECK(round_half_even(-x) <= -0x1p21f);
  }
  CHECK(std::isnan(round_half_even(std::numeric_limits<float>::quiet_NaN())));
}
