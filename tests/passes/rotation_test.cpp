#include "passes/rotation.h"

#include <doctest/doctest.h>

#include <cmath>

#include "support/random.h"

namespace abq::passes {
namespace {

using quant::ResidualRotation;

std::vector<float> random_values(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values)
    value = static_cast<float>(random.normal());
  return values;
}

// Q itself: what the rows of the identity become.
std::vector<float> matrix_of(const Rotation& rotation) {
  const auto n = static_cast<size_t>(rotation.size());
  std::vector<float> q(n * n, 0.0f);
  for (size_t i = 0; i < n; ++i)
    q[i * n + i] = 1.0f;
  rotation.rotate_columns({q.data(), rotation.size(), rotation.size()});
  return q;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    largest = std::fmax(largest, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return largest;
}

}  // namespace

TEST_CASE("a rotation is orthogonal, of its seed, and acts on columns and rows alike") {
  for (const auto kind : {ResidualRotation::kHadamard, ResidualRotation::kOrthogonal}) {
    for (const int64_t n : {16, 24, 46}) {  // 46 has no Hadamard matrix
      CAPTURE(n);
      const Rotation rotation(kind, n, 5);
      const std::vector<float> q = matrix_of(rotation);
      CHECK(matrix_of(Rotation(kind, n, 5)) == q);
      CHECK(matrix_of(Rotation(kind, n, 6)) != q);
      const int64_t rows = 7;
      const std::vector<float> w = random_values(rows * n, 1);
      std::vector<float> columns = w;
      rotation.rotate_columns({columns.data(), rows, n});
      // w Q by its definition; of w^T, rows turned are the transpose of that.
      std::vector<float> turned(w.size()), expected(w.size()), product(w.size());
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < n; ++c) {
          double sum = 0;
          for (int64_t k = 0; k < n; ++k)
            sum += static_cast<double>(w[static_cast<size_t>(r * n + k)]) *
                   static_cast<double>(q[static_cast<size_t>(k * n + c)]);
          product[static_cast<size_t>(r * n + c)] = static_cast<float>(sum);
          turned[static_cast<size_t>(c * rows + r)] = w[static_cast<size_t>(r * n + c)];
          expected[static_cast<size_t>(c * rows + r)] = columns[static_cast<size_t>(r * n + c)];
        }
      }
      CHECK(largest_difference(columns, product) < 1e-5);
      rotation.rotate_rows({turned.data(), n, rows});
      CHECK(turned == expected);
      // Q Q^T = I: lengths stay.
      double before = 0, after = 0;
      for (size_t i = 0; i < w.size(); ++i) {
        before += static_cast<double>(w[i]) * static_cast<double>(w[i]);
        after += static_cast<double>(columns[i]) * static_cast<double>(columns[i]);
      }
      CHECK(after == doctest::Approx(before).epsilon(1e-6));
    }
  }
}

TEST_CASE("a rotation says what it is") {
  CHECK(Rotation(ResidualRotation::kHadamard, 384, 0).description() ==
        "hadamard 12 x 32 with random signs");
  CHECK(Rotation(ResidualRotation::kHadamard, 46, 0).description() == "random orthogonal");
  CHECK(Rotation(ResidualRotation::kOrthogonal, 16, 0).description() == "random orthogonal");
  CHECK(Rotation(ResidualRotation::kNone, 16, 0).description() == "none");
  CHECK(Rotation(ResidualRotation::kNone, 16, 0).is_identity());
}

TEST_CASE("a transformed weight undoes the transform of its input") {
  const int64_t n = 5, k = 48, size = 24;
  const std::vector<float> w = random_values(n * k, 2);
  std::vector<float> x = random_values(k, 3), turned = w;
  const auto product = [&](const std::vector<float>& weight) {
    std::vector<float> y(static_cast<size_t>(n));
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < k; ++c)
        y[static_cast<size_t>(r)] +=
            weight[static_cast<size_t>(r * k + c)] * x[static_cast<size_t>(c)];
    return y;
  };
  const std::vector<float> before = product(w);
  transform_columns({turned.data(), n, k}, size);
  transform_columns({x.data(), 1, k}, size);
  CHECK(largest_difference(product(turned), before) < 1e-5);
}

}  // namespace abq::passes
