// The index math and the arithmetic of the token kernels, run on the CPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "quant/affine.h"
#include "runtime/cuda/tokens/token_math.h"
#include "runtime/cuda/tokens/token_plan.h"
#include "support/random.h"

namespace abq::runtime::cuda {
namespace {

using WarpWords = std::array<std::array<uint32_t, kLaneWords>, kLanes>;

// What a warp does with its code words, lane by lane.
void transpose(WarpWords& words) {
  for (auto& own : words) {
    uint32_t pair[kLaneWords] = {own[0], own[1]};
    transpose_own(pair);
    own = {pair[0], pair[1]};
  }
  for (const int distance : {16, 8}) {
    const WarpWords before = words;
    for (int lane = 0; lane < kLanes; ++lane) {
      for (size_t i = 0; i < kLaneWords; ++i) {
        words[static_cast<size_t>(lane)][i] =
            transpose_across(before[static_cast<size_t>(lane)][i],
                             before[static_cast<size_t>(lane ^ distance)][i], lane, distance);
      }
    }
  }
}

TEST_CASE("token kernels: a lane's columns are the inputs of views.h") {
  std::set<int> columns;
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < kLaneWords; ++i) {
      for (int b = 0; b < 4; ++b) {
        const int column = lane_column(i, lane) + b;
        columns.insert(column);
        CHECK(column == tile_input(4 * i + lane_quarter(lane), lane_half(lane), lane_t(lane), b));
      }
    }
  }
  CHECK(columns.size() == kTileDepth);
}

TEST_CASE("token kernels: the transposed words are the planes that views.h defines") {
  Random random(1);
  std::vector<uint8_t> codes(kTileDepth);
  for (uint8_t& code : codes)
    code = static_cast<uint8_t>(random.below(256));
  WarpWords words{};
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < kLaneWords; ++i) {
      for (int b = 0; b < 4; ++b) {
        words[static_cast<size_t>(lane)][static_cast<size_t>(i)] |=
            uint32_t{codes[static_cast<size_t>(lane_column(i, lane) + b)]} << (8 * b);
      }
    }
  }
  transpose(words);
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < kLaneWords; ++i) {
      const int plane = 4 * i + lane_quarter(lane);
      for (int s = 0; s < 8; ++s) {
        for (int b = 0; b < 4; ++b) {
          const int input = tile_input(s, lane_half(lane), lane_t(lane), b);
          const uint32_t expected = (uint32_t{codes[static_cast<size_t>(input)]} >> plane) & 1u;
          const uint32_t word = words[static_cast<size_t>(lane)][static_cast<size_t>(i)];
          CHECK(((word >> (8 * b + s)) & 1u) == expected);
        }
      }
    }
  }
}

TEST_CASE("token kernels: every word of planes and byte of codes has one place") {
  constexpr int kTokens = 11;
  constexpr int kTiles = 3;
  constexpr int kBits = 5;
  for (const int tokens : {8, 2 * kPlaneBlockTokens}) {
    std::set<int64_t> planes;
    for (int token = 0; token < tokens; ++token) {
      for (int tile = 0; tile < kTiles; ++tile) {
        for (int plane = 0; plane < kBits; ++plane) {
          for (int lane = 0; lane < 8; ++lane)
            planes.insert(plane_word(tokens, token, kTiles, tile, kBits, plane, lane));
        }
      }
    }
    // [m][k tiles][bits][t][h] and [m / 128][k tiles][bits][t / 2][m % 128][t % 2][h], t = 3, h = 1
    const int lane = 7;
    CHECK(plane_word(tokens, 5, kTiles, 2, kBits, 4, lane) ==
          (tokens == 8 ? ((5 * kTiles + 2) * kBits + 4) * 8 + 7
                       : ((((2 * kBits + 4) * 2 + 1) * 128 + 5) * 2 + 1) * 2 + 1));
    const auto words = static_cast<size_t>(tokens * kTiles * kBits * 8);
    CHECK(planes.size() == words);
    CHECK(static_cast<size_t>(*planes.rbegin()) == words - 1);
  }
  std::set<int64_t> bytes;
  for (int token = 0; token < kTokens; ++token) {
    for (int k = 0; k < kTiles * kTileDepth; k += 4) {
      const int64_t first = code_byte(token, kTiles, k);
      // [token / 8][k / 16][token % 8][k % 16]
      CHECK(first == ((token / 8 * (16 * kTiles) + k / 16) * 8 + token % 8) * 16 + k % 16);
      bytes.insert(first);
    }
  }
  CHECK(bytes.size() == kTokens * kTiles * kTileDepth / 4);
}

// Codes as the kernels make them.
void check_row(const std::vector<float>& row, int bits) {
  float high = 0.0f;
  float minus_low = 0.0f;
  for (const float v : row) {
    high = std::fmax(high, v);
    minus_low = std::fmax(minus_low, -v);
  }
  const quant::QuantizedTokens expected = quant::quantize_tokens(
      MatrixView<const float>(row.data(), 1, static_cast<int64_t>(row.size())), bits);
  const TokenGrid grid =
      token_grid(std::fabs(high), std::fabs(minus_low), static_cast<float>((1 << bits) - 1));
  REQUIRE(bits_of(grid.scale) == bits_of(expected.scales[0]));
  REQUIRE(grid.zero == expected.zeros[0]);
  for (size_t k = 0; k < row.size(); k += 4) {
    float four[4] = {};
    for (size_t b = 0; b < 4 && k + b < row.size(); ++b)
      four[b] = row[k + b] * grid.divisor.factor;
    const int left = static_cast<int>(row.size() - k);
    const uint32_t word = first_codes(code_word(four, grid), left);
    for (size_t b = 0; b < 4; ++b) {
      const uint32_t code = k + b < row.size() ? expected.codes[k + b] : 0u;
      INFO("bits " << bits << " value " << four[b] << " scale " << grid.scale);
      REQUIRE(((word >> (8 * b)) & 0xffu) == code);
    }
  }
}

TEST_CASE("token kernels: codes, scales and zero points are those of quantize_tokens") {
  Random random(2);
  for (int bits = 1; bits <= 8; ++bits) {
    for (const double size : {1e-42, 1e-30, 3e-7, 1.0, 1e5, 1e30, 8e37, 2.5e38}) {
      for (int round = 0; round < 20; ++round) {
        std::vector<float> row(301);
        const double shift = random.uniform() * 2 - 1;
        for (float& v : row)
          v = static_cast<float>((random.uniform() * 2 - 1 + shift) * 0.5 * size);
        check_row(row, bits);
      }
    }
  }
}

TEST_CASE("token kernels: halves between two codes are rounded as quantize_tokens rounds them") {
  Random random(3);
  for (int bits = 1; bits <= 8; ++bits) {
    const int levels = 1 << bits;
    for (int round = 0; round < 50; ++round) {
      const float scale = static_cast<float>(0.5 + random.uniform()) * 0.0371f;
      std::vector<float> row;
      for (int half = 0; half < 2 * levels - 1; ++half) {
        // A multiple of half the scale and its neighbours.
        const float v = scale * (0.5f * static_cast<float>(half - levels / 2));
        row.push_back(v);
        row.push_back(std::nextafter(v, 1.0f));
        row.push_back(std::nextafter(v, -1.0f));
      }
      check_row(row, bits);
    }
  }
}

TEST_CASE("token kernels: rows of zeros, one value, NaN and infinity are quantized as defined") {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (int bits = 1; bits <= 8; ++bits) {
    check_row(std::vector<float>(64, 0.0f), bits);
    check_row(std::vector<float>(64, -0.0f), bits);
    check_row(std::vector<float>(64, 3.7f), bits);
    check_row(std::vector<float>(64, -3.7f), bits);
    check_row(std::vector<float>(64, 1e-40f), bits);
    check_row(std::vector<float>(5, kNan), bits);
    check_row({1.0f, kNan, -2.0f, 0.25f, 0.0f}, bits);
    check_row({1.0f, kInfinity, -2.0f, 0.25f, kNan}, bits);
    check_row({1.0f, -kInfinity, -2.0f, 0.25f}, bits);
    check_row({kInfinity, -kInfinity, -2.0f, 0.25f}, bits);
    check_row({3e38f, -3e38f, 1.0f, 2e38f}, bits);
    check_row({3.2e38f, 1.6e38f, 0.8e38f, 1.7e38f}, bits);
    check_row({1e30f, 1.0f, -1.0f, 0.1f}, bits);
  }
}

TEST_CASE("token kernels: quotients are correctly rounded") {
  Random random(4);
  for (int i = 0; i < 2000000; ++i) {
    const float scale = std::ldexp(1.0f + static_cast<float>(random.uniform()),
                                   static_cast<int>(random.below(120)) - 26);
    const float x =
        static_cast<float>((random.uniform() * 2 - 1) * 256.0 * static_cast<double>(scale));
    if (std::fabs(x) < scale * 0x1p-30f || !(scale >= 1e-8f)) continue;
    const ScaleDivisor divisor = divisor_of(scale);
    const float q = quotient(x * divisor.factor, divisor);
    if (bits_of(q) != bits_of(x / scale)) {
      FAIL("x " << x << " scale " << scale << " expected " << x / scale << " got " << q);
    }
  }
}

TEST_CASE("token kernels: the scale of halves is a power of two that leaves room above") {
  for (const float largest : {1e-45f, 1e-38f, 1e-5f, 0.99f, 1.0f, 32767.9f, 65504.0f, 3e38f}) {
    const float scale = half_scale(largest);
    int exponent = 0;
    CHECK(std::frexp(scale, &exponent) == 0.5f);
    CHECK(largest / scale < 32768.0f);
    if (largest > 1e-30f) CHECK(largest / scale >= 16384.0f);
  }
  CHECK(half_scale(0.0f) == 1.0f);
  CHECK(half_scale(std::numeric_limits<float>::infinity()) == 1.0f);
}

TEST_CASE("token kernels: a plan gives every tile to a warp and no block more than it can have") {
  for (const int m : {1, 8, 17, 511, 512, 1000}) {
    for (const bool clusters : {false, true}) {
      for (const bool vector : {false, true}) {
        for (int columns = 1; columns < 200000; columns = columns * 5 / 4 + 1) {
          const TokenPlan plan = plan_tokens(m, columns, vector, clusters);
          const int tiles = divide_up(columns, kTileDepth);
          CHECK(plan.warps >= 1);
          CHECK(plan.warps <= kMaxRowWarps);
          CHECK((plan.blocks & (plan.blocks - 1)) == 0);
          CHECK(plan.blocks <= (clusters ? kMaxCluster : 1));
          if (plan.held > 0) {
            CHECK(vector);
            CHECK(plan.blocks * plan.warps * plan.held >= tiles);
            CHECK(tiles <= kMaxHeldTiles);
          } else {
            CHECK(plan.blocks == 1);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace abq::runtime::cuda
