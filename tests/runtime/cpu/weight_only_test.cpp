#include <doctest/doctest.h>

#include "linear_test_util.h"
#include "support/parallel.h"

namespace abq::runtime {
namespace {

void check_case(const quant::WeightSpec& spec, int64_t m, int64_t n, int64_t k, CpuIsa isa) {
  CAPTURE(describe(spec, 16, m, n, k, isa));
  const TestWeights w = random_weights(static_cast<uint64_t>(k + n), spec, n, k);
  const std::vector<float> x = random_values(static_cast<uint64_t>(m), m * k);
  std::vector<float> dequantized(static_cast<size_t>(n * k));
  quant::dequantize_weights(w.weights, {dequantized.data(), n, k});
  auto linear = QuantizedLinear::prepare(w.stored(), 16, isa);
  REQUIRE_MESSAGE(linear.ok(), linear.status().to_string());
  std::vector<float> y(static_cast<size_t>(m * n));
  linear.value()->run_float({x.data(), m, k}, {y.data(), m, n});
  for (int64_t t = 0; t < m; ++t) {
    std::vector<double> x_size(static_cast<size_t>(k));
    for (int64_t j = 0; j < k; ++j)
      x_size[static_cast<size_t>(j)] = std::fabs(x[static_cast<size_t>(t * k + j)]);
    for (int64_t row = 0; row < n; ++row) {
      double expected = 0;
      for (int64_t j = 0; j < k; ++j) {
        expected += static_cast<double>(x[static_cast<size_t>(t * k + j)]) *
                    static_cast<double>(dequantized[static_cast<size_t>(row * k + j)]);
      }
      const double got = static_cast<double>(y[static_cast<size_t>(t * n + row)]);
      const double tolerance =
          (std::sqrt(static_cast<double>(k)) + 8) * 0x1p-24 * output_size(w.weights, row, x_size);
      REQUIRE_MESSAGE(std::fabs(got - expected) <= tolerance, "token ", t, " row ", row, ": ", got,
                      " against ", expected);
    }
  }
}

}  // namespace

TEST_CASE("weight only: every width and group equals the float product at every level") {
  constexpr int64_t kTokens[] = {1, 2, 5, 8, 11, 23, 24, 33};
  constexpr int64_t kInputs[] = {1, 31, 64, 100, 384, 1000, 2048};
  size_t step = 0;
  for (const CpuIsa isa : levels_here()) {
    for (int bits = 1; bits <= 8; ++bits) {
      for (const bool balanced : {false, true}) {
        if (balanced && bits > 2) continue;
        for (const int group_size : {0, 32, 64, 128}) {
          ++step;
          int64_t k = kInputs[(step * 3) % std::size(kInputs)];
          if (group_size != 0) k = (k + group_size - 1) / group_size * group_size;
          check_case({bits, balanced, group_size, step % 2 == 0},
                     kTokens[step % std::size(kTokens)], static_cast<int64_t>(1 + step % 23), k,
                     isa);
        }
      }
    }
  }
}

TEST_CASE("weight only: the result bits do not depend on the number of threads") {
  for (const int64_t m : {1, 20, 40}) {
    const TestWeights w = random_weights(9, {4, false, 128, false}, 300, 1024);
    const std::vector<float> x = random_values(4, m * 1024);
    auto linear = QuantizedLinear::prepare(w.stored(), 16);
    REQUIRE(linear.ok());
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 5}) {
      set_num_threads(threads);
      results.emplace_back(static_cast<size_t>(m * 300));
      linear.value()->run_float({x.data(), m, 1024}, {results.back().data(), m, 300});
    }
    set_num_threads(0);
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
  }
}

TEST_CASE(
    "weight only: NaN and infinity stay in their token, tiny and huge tokens keep their size") {
  constexpr int64_t kN = 6, kK = 256, kM = 5;
  const TestWeights w = random_weights(3, {4, false, 0, false}, kN, kK);
  const std::vector<float> x = random_values(5, kM * kK);
  std::vector<float> base(static_cast<size_t>(kM * kN));
  for (const CpuIsa isa : levels_here()) {
    auto linear = QuantizedLinear::prepare(w.stored(), 16, isa);
    REQUIRE(linear.ok());
    std::vector<float> scaled = x;
    for (int64_t j = 0; j < kK; ++j) {
      scaled[static_cast<size_t>(1 * kK + j)] *= 0x1p-60f;
      scaled[static_cast<size_t>(2 * kK + j)] *= 0x1p60f;
    }
    scaled[3 * kK + 7] = NAN;
    scaled[4 * kK + 200] = INFINITY;
    std::vector<float> y(static_cast<size_t>(kM * kN));
    linear.value()->run_float({x.data(), kM, kK}, {base.data(), kM, kN});
    linear.value()->run_float({scaled.data(), kM, kK}, {y.data(), kM, kN});
    for (size_t r = 0; r < kN; ++r) {
      CHECK(y[r] == base[r]);
      CHECK(y[kN + r] == base[kN + r] * 0x1p-60f);
      CHECK(y[2 * kN + r] == base[2 * kN + r] * 0x1p60f);
      CHECK(!std::isfinite(y[3 * kN + r]));
      CHECK(!std::isfinite(y[4 * kN + r]));
    }
  }
}

}  // namespace abq::runtime
