#include "runtime/cpu/quantized_linear.h"

#include <doctest/doctest.h>

#include "linear_test_util.h"
#include "quant/reference_gemm.h"
#include "support/parallel.h"

namespace abq::runtime {
namespace {

struct Case {
  quant::WeightSpec spec;
  int activation_bits;
  int64_t m, n, k;
};

// The reference's answer to a case, computed once for all levels.
struct Expected {
  std::vector<int64_t> products;
  std::vector<float> y;
  std::vector<double> tolerance;
};

// Products must be bit-equal, outputs within the rounding of the float epilogue: per channel a
// handful of roundings of the result itself, with groups one addition per group of terms of known
// size.
Expected expected_of(const Case& c, const TestWeights& w, const quant::QuantizedTokens& x) {
  Expected e;
  e.products = quant::reference_code_products(x, w.weights);
  e.y.resize(static_cast<size_t>(c.m * c.n));
  quant::reference_gemm(x, w.weights, {e.y.data(), c.m, c.n});
  const double groups = static_cast<double>(c.spec.groups(c.k));
  for (int64_t t = 0; t < c.m; ++t) {
    std::vector<double> x_size(static_cast<size_t>(c.k));
    for (int64_t j = 0; j < c.k; ++j) {
      x_size[static_cast<size_t>(j)] =
          x.codes[static_cast<size_t>(t * c.k + j)] + x.zeros[static_cast<size_t>(t)];
    }
    for (int64_t row = 0; row < c.n; ++row) {
      const double y = static_cast<double>(e.y[static_cast<size_t>(t * c.n + row)]);
      double tolerance = 4 * 0x1p-24 * std::fabs(y);
      if (c.spec.group_size != 0) {
        tolerance += (groups + 8) * 0x1p-24 *
                     static_cast<double>(x.scales[static_cast<size_t>(t)]) *
                     output_size(w.weights, row, x_size);
      }
      e.tolerance.push_back(tolerance);
    }
  }
  return e;
}

void check_case(const Case& c, quant::GemmFamily family) {
  const TestWeights w = random_weights(static_cast<uint64_t>(c.k * 31 + c.n), c.spec, c.n, c.k);
  const std::vector<float> values = random_values(static_cast<uint64_t>(c.m), c.m * c.k);
  const MatrixView<const float> x(values.data(), c.m, c.k);
  const Expected expected = expected_of(c, w, quant::quantize_tokens(x, c.activation_bits));
  for (const CpuIsa isa : levels_here()) {
    CAPTURE(describe(c.spec, c.activation_bits, c.m, c.n, c.k, isa));
    PackedTokens packed;
    pack_tokens(x, c.activation_bits, packed, isa, family == quant::GemmFamily::kBits);
    auto linear = QuantizedLinear::prepare(w.stored(), c.activation_bits, isa, family);
    REQUIRE_MESSAGE(linear.ok(), linear.status().to_string());
    std::vector<int64_t> sums(expected.products.size(), -1);
    linear.value()->accumulate(packed, sums);
    const bool equal = sums == expected.products;
    REQUIRE(equal);
    std::vector<float> y(expected.y.size());
    linear.value()->run(packed, {y.data(), c.m, c.n});
    for (size_t i = 0; i < y.size(); ++i) {
      const double error =
          std::fabs(static_cast<double>(y[i]) - static_cast<double>(expected.y[i]));
      if (error <= expected.tolerance[i]) continue;
      FAIL("output ", i, ": ", y[i], " against ", expected.y[i]);
    }
  }
}

constexpr int64_t kTokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33};
constexpr int64_t kRows[] = {1, 3, 4, 7, 12, 21, 37};
constexpr int64_t kInputs[] = {1, 31, 64, 100, 384, 1000, 4096};

std::vector<quant::WeightSpec> specs_of_groups(int group_size) {
  std::vector<quant::WeightSpec> specs;
  for (int bits = 1; bits <= 8; ++bits) {
    for (const bool balanced : {false, true}) {
      if (balanced && bits > 2) continue;
      for (const bool symmetric : {false, true})
        specs.push_back({bits, balanced, group_size, symmetric});
    }
  }
  return specs;
}

// One shape per width pair, walking through all tokens, rows and inputs with steps that share no
// factor with their counts.
void check_all_pairs(int group_size, quant::GemmFamily family) {
  size_t step = 0;
  for (const quant::WeightSpec& spec : specs_of_groups(group_size)) {
    for (int activation_bits = 1; activation_bits <= 8; ++activation_bits, ++step) {
      int64_t k = kInputs[step % std::size(kInputs)];
      if (group_size != 0) k = (k + group_size - 1) / group_size * group_size;
      const int64_t m = kTokens[(step * 5 + step / 8) % std::size(kTokens)];
      check_case({spec, activation_bits, m, kRows[(step * 3 + step / 7) % std::size(kRows)], k},
                 family);
    }
  }
}

}  // namespace

TEST_CASE("int8: every width pair per channel equals the reference at every level") {
  check_all_pairs(0, quant::GemmFamily::kInt8);
}

TEST_CASE("int8: every width pair in groups of 32 equals the reference at every level") {
  check_all_pairs(32, quant::GemmFamily::kInt8);
}

TEST_CASE("int8: every width pair in groups of 64 equals the reference at every level") {
  check_all_pairs(64, quant::GemmFamily::kInt8);
}

TEST_CASE("int8: every width pair in groups of 128 equals the reference at every level") {
  check_all_pairs(128, quant::GemmFamily::kInt8);
}

TEST_CASE("bits: every width pair equals the reference at every level") {
  check_all_pairs(0, quant::GemmFamily::kBits);
}

TEST_CASE("every number of tokens takes its tile of the GEMV and the GEMM") {
  for (const int64_t m : kTokens) {
    for (const int group_size : {0, 64}) {
      check_case({{4, false, group_size, false}, 8, m, 21, 1152}, quant::GemmFamily::kInt8);
      check_case({{8, false, group_size, false}, 8, m, 21, 1152}, quant::GemmFamily::kInt8);
    }
  }
}

TEST_CASE("more tokens and rows than one tile holds") {
  check_case({{4, false, 0, false}, 8, 275, 133, 256}, quant::GemmFamily::kInt8);
  check_case({{3, false, 128, false}, 4, 275, 133, 256}, quant::GemmFamily::kInt8);
}

TEST_CASE("K beyond the int32 bound is exact") {
  for (const int64_t m : {1, 9}) {
    check_case({{8, false, 0, false}, 8, m, 5, 33025 + 300}, quant::GemmFamily::kInt8);
    check_case({{8, false, 0, true}, 8, m, 5, 100000}, quant::GemmFamily::kInt8);
    check_case({{7, false, 0, false}, 8, m, 5, 140000}, quant::GemmFamily::kInt8);
    check_case({{8, false, 0, false}, 8, m, 2, 100000}, quant::GemmFamily::kBits);
  }
}

TEST_CASE("extreme codes at the largest K of one int32 chunk do not overflow") {
  constexpr int64_t kMost = 33025 - 1;
  TestWeights w = random_weights(5, {8, false, 0, false}, 4, kMost);
  std::fill(w.weights.codes.begin(), w.weights.codes.end(), uint8_t{255});
  std::fill(w.weights.zeros.begin(), w.weights.zeros.end(), uint8_t{0});
  const quant::PackedLayout layout = w.stored().layout;
  for (int64_t row = 0; row < 4; ++row) {
    quant::pack_row(layout, std::span(w.weights.codes).first(static_cast<size_t>(kMost)),
                    std::span(w.packed).subspan(static_cast<size_t>(row * layout.row_bytes()),
                                                static_cast<size_t>(layout.row_bytes())));
  }
  // One zero per token keeps the zero point at 0 and all other codes at 255.
  std::vector<float> x(static_cast<size_t>(17 * kMost), 1.0f);
  PackedTokens packed;
  for (const CpuIsa isa : levels_here()) {
    for (const int64_t m : {1, 17}) {
      pack_tokens({x.data(), m, kMost}, 8, packed, isa);
      auto linear = QuantizedLinear::prepare(w.stored(), 8, isa);
      REQUIRE(linear.ok());
      std::vector<int64_t> sums(static_cast<size_t>(m * 4));
      linear.value()->accumulate(packed, sums);
      for (const int64_t sum : sums)
        REQUIRE(sum == kMost * 255 * 255);
    }
  }
}

TEST_CASE("the result bits do not depend on the number of threads") {
  for (const int group_size : {0, 32}) {
    for (const int64_t m : {1, 40}) {
      const TestWeights w = random_weights(9, {3, false, group_size, false}, 300, 1024);
      const std::vector<float> values = random_values(4, m * 1024);
      auto linear = QuantizedLinear::prepare(w.stored(), 6);
      REQUIRE(linear.ok());
      std::vector<std::vector<float>> results;
      for (const int threads : {1, 2, 5}) {
        set_num_threads(threads);
        PackedTokens packed;
        pack_tokens({values.data(), m, 1024}, 6, packed);
        results.emplace_back(static_cast<size_t>(m * 300));
        linear.value()->run(packed, {results.back().data(), m, 300});
      }
      set_num_threads(0);
      CHECK(results[0] == results[1]);
      CHECK(results[0] == results[2]);
    }
  }
}

TEST_CASE("per channel, a token's bits do not depend on the tokens beside it or on the level") {
  const TestWeights w = random_weights(9, {4, false, 0, false}, 50, 640);
  const std::vector<float> values = random_values(4, 40 * 640);
  std::vector<float> expected;
  for (const CpuIsa isa : levels_here()) {
    auto linear = QuantizedLinear::prepare(w.stored(), 8, isa);
    REQUIRE(linear.ok());
    for (const int64_t m : {1, 3, 40}) {
      PackedTokens packed;
      pack_tokens({values.data(), m, 640}, 8, packed, isa);
      std::vector<float> y(static_cast<size_t>(m * 50));
      linear.value()->run(packed, {y.data(), m, 50});
      y.resize(50);
      if (expected.empty()) expected = y;
      CHECK(y == expected);
    }
  }
}

TEST_CASE("outputs go to a strided view and nowhere else") {
  const TestWeights w = random_weights(2, {2, true, 0, true}, 10, 96);
  const std::vector<float> values = random_values(8, 20 * 96);
  auto linear = QuantizedLinear::prepare(w.stored(), 8);
  REQUIRE(linear.ok());
  PackedTokens packed;
  pack_tokens({values.data(), 20, 96}, 8, packed);
  std::vector<float> y(20 * 16, -7.0f);
  linear.value()->run(packed, {y.data(), 20, 10, 16});
  for (size_t i = 0; i < y.size(); ++i)
    CHECK((y[i] == -7.0f) == (i % 16 >= 10));
}

}  // namespace abq::runtime
