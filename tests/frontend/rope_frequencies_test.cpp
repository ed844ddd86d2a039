#include "frontend/rope_frequencies.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>

using namespace abq::frontend;

TEST_CASE("unscaled frequencies are theta^(-2j/D)") {
  const std::vector<float> frequencies = rope_inverse_frequencies({.theta = 10000.0}, 8);
  CHECK(frequencies == std::vector<float>{1.0f, 0.1f, 0.01f, 0.001f});
}

TEST_CASE("linear scaling divides every frequency by the factor") {
  const RopeConfig config = {.theta = 10000.0, .scaling = RopeScaling::kLinear, .factor = 4.0};
  CHECK(rope_inverse_frequencies(config, 4) == std::vector<float>{0.25f, 0.0025f});
}

TEST_CASE("llama3 scaling keeps high frequencies, divides low ones and blends between") {
  const RopeConfig config = {.theta = 500000.0,
                             .scaling = RopeScaling::kLlama3,
                             .factor = 8.0,
                             .low_frequency_factor = 1.0,
                             .high_frequency_factor = 4.0,
                             .original_context = 8192};
  const std::vector<float> frequencies = rope_inverse_frequencies(config, 128);
  REQUIRE(frequencies.size() == 64);
  // Worked out apart from this code, in double: 0, 16, 28 are kept, 29 to 32 blended, 35 on
  // divided.
  constexpr std::array<std::pair<size_t, double>, 7> kGolden = {{{0, 1.0},
                                                                 {16, 0.03760603093086393},
                                                                 {28, 0.003211445994752591},
                                                                 {29, 0.002166570763503359},
                                                                 {32, 0.0005248461609929547},
                                                                 {35, 9.556212353964683e-05},
                                                                 {63, 3.068925988914511e-07}}};
  for (const auto& [j, golden] : kGolden) {
    CHECK(std::abs(frequencies[j] / golden - 1.0) < 1e-7);
  }
}
