#include <algorithm>
#include <atomic>

#include "compute_test_support.h"

namespace abq::compute {
namespace {

// A float32 sum of K products, in any order, errs by less than K eps |x| |w|; blocked sums stay far
// below that, so the bound grows with sqrt(K) only.
double product_bound(const float* x, const float* w, int64_t depth) {
  double xx = 0.0, ww = 0.0;
  for (int64_t k = 0; k < depth; ++k) {
    xx += static_cast<double>(x[k]) * x[k];
    ww += static_cast<double>(w[k]) * w[k];
  }
  return 2.0 * kEpsilon * std::sqrt(xx * ww) + 1e-30;
}

double linear_error(const Device& device, int64_t m, const TypedMatrix& w, uint64_t seed) {
  const int64_t n = w.rows, depth = w.cols;
  const auto x = random_floats(m * depth, seed);
  std::vector<float> y(static_cast<size_t>(m * (n + 3)), NAN);
  device.linear({x.data(), m, depth}, w.view(), {y.data(), m, n, n + 3});
  WorstError error;
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      const float* xr = x.data() + r * depth;
      const float* wc = w.values.data() + c * depth;
      double sum = 0.0;
      for (int64_t k = 0; k < depth; ++k)
        sum += static_cast<double>(xr[k]) * wc[k];
      error.add(y[r * (n + 3) + c], sum, product_bound(xr, wc, depth));
    }
    for (int64_t c = n; c < n + 3; ++c)
      if (!std::isnan(y[r * (n + 3) + c])) return INFINITY;  // wrote beyond the row
  }
  return error.value();
}

TEST_CASE("linear agrees with float64 for odd shapes in every float type") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    for (FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
      for (int64_t depth : {1, 3, 64, 384, 1000}) {
        for (int64_t n : {1, 7, 33, 70}) {
          const TypedMatrix w(type, n, depth, 7);
          for (int64_t m : {0, 1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 28, 33, 64, 65}) {
            const double error = linear_error(level.device, m, w, 11);
            CAPTURE(static_cast<int>(type));
            CAPTURE(m);
            CAPTURE(n);
            CAPTURE(depth);
            REQUIRE(error <= 1.0);
          }
        }
      }
    }
  }
}

TEST_CASE("linear agrees with float64 when every dimension needs several tiles") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    const TypedMatrix w(FloatType::kF32, 517, 300, 3);
    CHECK(linear_error(level.device, 601, w, 5) <= 1.0);
  }
}

TEST_CASE("linear gives the same bits for any number of threads") {
  const ThreadsRestored restored;
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    const TypedMatrix w(FloatType::kBF16, 2051, 600, 3);
    for (int64_t m : {1, 3, 70}) {
      const auto x = random_floats(m * w.cols, 4);
      std::vector<std::vector<float>> results;
      for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        results.emplace_back(static_cast<size_t>(m * w.rows));
        level.device.linear({x.data(), m, w.cols}, w.view(), {results.back().data(), m, w.rows});
      }
      CHECK(results[0] == results[1]);
      CHECK(results[0] == results[2]);
    }
  }
}

TEST_CASE("a row of linear has the same bits among few rows, and among many rows") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    const TypedMatrix w(FloatType::kF32, 131, 520, 3);
    const int64_t most = 300;
    const auto x = random_floats(most * w.cols, 4);
    std::vector<float> all(static_cast<size_t>(most * w.rows)), some(all.size());
    for (auto [first, second] : {std::pair<int64_t, int64_t>{1, 4}, {5, most}, {67, most}}) {
      level.device.linear({x.data(), first, w.cols}, w.view(), {some.data(), first, w.rows});
      level.device.linear({x.data(), second, w.cols}, w.view(), {all.data(), second, w.rows});
      CHECK(std::equal(some.begin(), some.begin() + first * w.rows, all.begin()));
    }
  }
}

class CopiedWeights final : public WeightSource {
 public:
  explicit CopiedWeights(const TypedMatrix& w) : w_(w) {}
  int64_t rows() const override { return w_.rows; }
  int64_t cols() const override { return w_.cols; }
  void read(int64_t first_row, int64_t rows, int64_t first_col, int64_t cols, float* out,
            int64_t stride) const override {
    if (first_row % kRowStep != 0 || first_col % kColStep != 0) aligned_ = false;
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(w_.values.data() + (first_row + r) * w_.cols + first_col, cols, out + r * stride);
  }
  bool aligned() const { return aligned_; }

 private:
  const TypedMatrix& w_;
  mutable std::atomic<bool> aligned_ = true;
};

TEST_CASE("linear from a weight source has the bits of linear from the same matrix") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    const TypedMatrix w(FloatType::kF32, 331, 600, 3);
    for (int64_t m : {5, 67, 300}) {
      const auto x = random_floats(m * w.cols, 4);
      std::vector<float> expected(static_cast<size_t>(m * w.rows)), got(expected.size());
      level.device.linear({x.data(), m, w.cols}, w.view(), {expected.data(), m, w.rows});
      const CopiedWeights source(w);
      level.device.linear({x.data(), m, w.cols}, source, {got.data(), m, w.rows});
      CHECK(expected == got);
      CHECK(source.aligned());
    }
  }
}

TEST_CASE("linear carries NaN into its own row and column only") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    TypedMatrix w(FloatType::kF32, 21, 40, 3);
    w.values[5 * 40 + 2] = NAN;
    const int64_t m = 9;
    auto x = random_floats(m * 40, 4);
    x[3 * 40 + 7] = NAN;
    std::vector<float> y(static_cast<size_t>(m * 21));
    level.device.linear({x.data(), m, 40}, w.view(), {y.data(), m, 21});
    for (int64_t r = 0; r < m; ++r)
      for (int64_t c = 0; c < 21; ++c)
        CHECK(std::isnan(y[r * 21 + c]) == (r == 3 || c == 5));
  }
}

TEST_CASE("matmul agrees with float64 for odd shapes and strided operands") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    for (int64_t m : {1, 2, 7, 65}) {
      for (int64_t n : {1, 17, 100, 300}) {
        for (int64_t depth : {1, 5, 64, 300}) {
          const auto a = random_floats(m * (depth + 2), 1);
          const auto b = random_floats(depth * (n + 1), 2);
          std::vector<float> c(static_cast<size_t>(m * n));
          level.device.matmul({a.data(), m, depth, depth + 2}, {b.data(), depth, n, n + 1},
                              {c.data(), m, n});
          WorstError error;
          for (int64_t r = 0; r < m; ++r) {
            for (int64_t j = 0; j < n; ++j) {
              std::vector<float> column;
              double sum = 0.0;
              for (int64_t k = 0; k < depth; ++k) {
                column.push_back(b[k * (n + 1) + j]);
                sum += static_cast<double>(a[r * (depth + 2) + k]) * column.back();
              }
              error.add(c[r * n + j], sum,
                        product_bound(a.data() + r * (depth + 2), column.data(), depth));
            }
          }
          CAPTURE(m);
          CAPTURE(n);
          CAPTURE(depth);
          REQUIRE(error.value() <= 1.0);
        }
      }
    }
  }
}

}  // namespace
}  // namespace abq::compute
