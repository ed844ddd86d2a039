#include "quant/reference_gemm.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/quant/quant_test_util.h"

using namespace abq;
using namespace abq::quant;

namespace {

QuantizedTokens tokens_of(std::vector<uint8_t> codes, int bits, int64_t m) {
  QuantizedTokens x;
  x.bits = bits;
  x.m = m;
  x.k = static_cast<int64_t>(codes.size()) / m;
  x.codes = std::move(codes);
  x.scales.assign(static_cast<size_t>(m), 1.0f);
  x.zeros.assign(static_cast<size_t>(m), 0);
  return x;
}

QuantizedWeights weights_of(std::vector<uint8_t> codes, const WeightSpec& spec, int64_t n) {
  QuantizedWeights w;
  w.spec = spec;
  w.n = n;
  w.k = static_cast<int64_t>(codes.size()) / n;
  w.codes = std::move(codes);
  w.scales.assign(static_cast<size_t>(n * spec.groups(w.k)), 1.0f);
  w.zeros.assign(static_cast<size_t>(n * spec.groups(w.k)), 0);
  return w;
}

}  // namespace

TEST_CASE("plane products equal the plain sum of code products for every pair of widths") {
  const int64_t m = 2;
  const int64_t n = 3;
  for (const int64_t k : {1, 63, 64, 65, 130}) {
    for (const WeightSpec& spec : every_weight_spec({0})) {
      for (int bits = 1; bits <= 8; ++bits) {
        const QuantizedTokens x = tokens_of(random_codes(1, m * k, 1 << bits), bits, m);
        const QuantizedWeights w = weights_of(random_codes(2, n * k, spec.levels()), spec, n);
        const std::vector<int64_t> products = reference_code_products(x, w);
        int wrong = 0;
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = 0; j < n; ++j) {
            int64_t sum = 0;
            for (int64_t t = 0; t < k; ++t)
              sum +=
                  x.codes[static_cast<size_t>(i * k + t)] * w.codes[static_cast<size_t>(j * k + t)];
            wrong += products[static_cast<size_t>(i * n + j)] != sum;
          }
        }
        CHECK_MESSAGE(wrong == 0, describe(spec), " a", bits, " K=", k);
      }
    }
  }
}

TEST_CASE("the integer identity equals the float64 product of the dequantized matrices") {
  const int64_t m = 3;
  const int64_t n = 4;
  const int64_t k = 128;
  const std::vector<float> x = normal_values(5, m * k);
  const std::vector<float> w = normal_values(6, n * k, 0.02);
  for (const WeightSpec& spec : every_weight_spec({0, 32, 64, 128})) {
    const QuantizedWeights qw = *quantize_weights(view(w, n), spec);
    for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
      const QuantizedTokens qx = quantize_tokens(view(x, m), bits);
      std::vector<float> y(static_cast<size_t>(m * n));
      reference_gemm(qx, qw, view(y, m));
      double worst = 0;
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double sum = 0;
          double magnitude = 0;
          for (int64_t t = 0; t < k; ++t) {
            const size_t g = static_cast<size_t>(j * spec.groups(k) + t / (k / spec.groups(k)));
            const double wt = static_cast<double>(qw.scales[g]) *
                              (qw.codes[static_cast<size_t>(j * k + t)] -
                               static_cast<double>(qw.zeros[g]) / spec.zero_denominator());
            const double xt = static_cast<double>(qx.scales[static_cast<size_t>(i)]) *
                              (qx.codes[static_cast<size_t>(i * k + t)] -
                               static_cast<double>(qx.zeros[static_cast<size_t>(i)]));
            sum += wt * xt;
            magnitude += std::fabs(wt * xt);
          }
          const double got = static_cast<double>(y[static_cast<size_t>(i * n + j)]);
          // One rounding to float32, and float64 noise of the sum on the right.
          const double bound = 0x1p-24 * std::fabs(sum) + 1e-13 * magnitude;
          worst = std::max(worst, std::fabs(got - sum) - bound);
        }
      }
      CHECK_MESSAGE(worst <= 0, describe(spec), " a", bits);
    }
  }
}

TEST_CASE("the int32 bound is exact") {
  CHECK(fits_int32(33025, 255, 8));
  CHECK(!fits_int32(33026, 255, 8));
  CHECK(fits_int32((1LL << 31) - 1, 1, 1));
  CHECK(!fits_int32(1LL << 31, 1, 1));
  CHECK(!fits_int32(INT64_MAX, 255, 8));
}

TEST_CASE("K beyond the int32 bound is exact") {
  for (const int64_t k : {33025, 33026, 70001, 300000}) {
    const size_t count = static_cast<size_t>(k);
    const QuantizedTokens x = tokens_of(std::vector<uint8_t>(count, 255), 8, 1);
    QuantizedWeights w = weights_of(std::vector<uint8_t>(count, 255), {8}, 1);
    CHECK(reference_code_products(x, w)[0] == k * 255 * 255);
    // (255 - 254) * 255 each: the terms of the identity are far beyond int32, their sum is not.
    w.zeros[0] = 254;
    std::vector<float> y(1);
    reference_gemm(x, w, view(y, 1));
    CHECK(y[0] == static_cast<float>(k * 255));
  }
}

TEST_CASE("all-zero tokens and weights give exactly zero") {
  const std::vector<float> zeros(64, 0.0f);
  const std::vector<float> normal = normal_values(7, 64);
  std::vector<float> y(1, 1.0f);
  reference_gemm(quantize_tokens(view(zeros, 1), 4), *quantize_weights(view(normal, 1), {4}),
                 view(y, 1));
  CHECK(y[0] == 0.0f);
  reference_gemm(quantize_tokens(view(normal, 1), 4), *quantize_weights(view(zeros, 1), {4}),
                 view(y, 1));
  CHECK(y[0] == 0.0f);
}
