#include "runtime/cpu/packed_tokens.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "linear_test_util.h"
#include "support/parallel.h"

namespace abq::runtime {
namespace {

// Rows of every kind that a token can be.
std::vector<float> difficult_rows(int64_t m, int64_t k) {
  std::vector<float> values = random_values(7, m * k);
  for (int64_t t = 0; t < m; ++t) {
    float* row = values.data() + t * k;
    for (int64_t j = 0; j < k; ++j) {
      switch (t % 8) {
        case 1:
          row[j] = 0;
          break;
        case 2:
          row[j] = std::fabs(row[j]) + 0.5f;
          break;
        case 3:
          row[j] = -std::fabs(row[j]) - 0.5f;
          break;
        case 4:
          row[j] *= 1e37f;
          break;
        case 5:
          row[j] *= 1e-12f;
          break;
        case 6:
          row[j] = static_cast<float>(j % 512) * 0.5f;  // many exact halves of a step
          break;
        default:
          break;
      }
    }
  }
  return values;
}

void check_equal(const quant::QuantizedTokens& expected, const PackedTokens& got) {
  REQUIRE(got.m() == expected.m);
  REQUIRE(got.k() == expected.k);
  for (int64_t t = 0; t < expected.m; ++t) {
    const size_t row = static_cast<size_t>(t);
    const uint8_t* codes = expected.codes.data() + t * expected.k;
    CHECK(std::equal(codes, codes + expected.k, got.codes(t)));
    CHECK(got.scales()[t] == expected.scales[row]);
    CHECK(got.zeros()[t] == expected.zeros[row]);
    int32_t sum = 0;
    for (int64_t j = 0; j < got.padded_k(); ++j) {
      if (j >= expected.k) REQUIRE(got.codes(t)[j] == 0);
      sum += got.codes(t)[j];
      if (j % 32 == 31) {
        int32_t sum32 = 0;
        for (int64_t i = j - 31; i <= j; ++i)
          sum32 += got.codes(t)[i];
        REQUIRE(got.sums32(t)[j / 32] == sum32);
      }
    }
    CHECK(got.sums()[t] == sum);
  }
}

}  // namespace

TEST_CASE("packed tokens have the bytes of the reference quantizer at every level") {
  PackedTokens packed;  // reused: nothing of an earlier, larger call may show through
  for (const CpuIsa isa : levels_here()) {
    for (const int64_t k : {4096, 1, 31, 64, 100, 384, 1000}) {
      const std::vector<float> x = difficult_rows(19, k);
      for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
        CAPTURE(cpu_isa_name(isa));
        CAPTURE(k);
        CAPTURE(bits);
        pack_tokens({x.data(), 19, k}, bits, packed, isa);
        check_equal(quant::quantize_tokens({x.data(), 19, k}, bits), packed);
      }
    }
  }
}

TEST_CASE("rows with infinities and NaN quantize as the reference does") {
  std::vector<float> x = random_values(3, 4 * 100);
  x[5] = INFINITY;
  x[105] = -INFINITY;
  x[205] = NAN;
  x[305] = INFINITY;
  x[306] = -INFINITY;
  PackedTokens packed;
  for (const CpuIsa isa : levels_here()) {
    pack_tokens({x.data(), 4, 100}, 8, packed, isa);
    check_equal(quant::quantize_tokens({x.data(), 4, 100}, 8), packed);
  }
}

TEST_CASE("panels hold sixteen tokens by fours of codes, padded with zeros") {
  const std::vector<float> x = random_values(11, 35 * 200);
  PackedTokens packed;
  pack_tokens({x.data(), 35, 200}, 8, packed);
  if (!packed.has_panels()) return;  // the baseline has no GEMM
  for (int64_t t = 0; t < 48; ++t) {
    for (int64_t j = 0; j < packed.padded_k(); ++j) {
      const uint8_t expected = t < 35 ? packed.codes(t)[j] : 0;
      REQUIRE(packed.panel(t / 16)[j / 4 * 64 + t % 16 * 4 + j % 4] == expected);
    }
  }
}

TEST_CASE("planes hold one bit of each code") {
  const std::vector<float> x = random_values(13, 3 * 600);
  PackedTokens packed;
  pack_tokens({x.data(), 3, 600}, 5, packed, cpu_isa(), true);
  REQUIRE(packed.has_planes());
  const int64_t bytes = PackedTokens::plane_bytes(600);
  CHECK(bytes == 128);
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t j = 0; j < 8 * bytes; ++j) {
      const int code = j < 600 ? packed.codes(t)[j] : 0;
      for (int b = 0; b < 5; ++b)
        REQUIRE(((packed.planes(t)[b * bytes + j / 8] >> (j % 8)) & 1) == ((code >> b) & 1));
    }
  }
}

}  // namespace abq::runtime
