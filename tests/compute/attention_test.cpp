#include <algorithm>

#include "compute_test_support.h"

namespace abq::compute {
namespace {

struct Problem {
  AttentionShape shape;
  int64_t queries;
  int64_t first_query;
  std::vector<float> q, k, v;

  Problem(AttentionShape s, int64_t m, int64_t first) : shape(s), queries(m), first_query(first) {
    q = random_floats(m * q_cols(), 1, 1.5);
    k = random_floats(keys() * kv_cols(), 2, 1.5);
    v = random_floats(keys() * kv_cols(), 3);
  }
  int64_t keys() const { return first_query + queries; }
  int64_t q_cols() const { return int64_t{shape.heads} * shape.head_dim; }
  int64_t kv_cols() const { return int64_t{shape.kv_heads} * shape.head_dim; }

  // Query rows [first, first + count) of this problem, over the keys up to the last of them.
  std::vector<float> run(const Device& device, int64_t first, int64_t count) const {
    const int64_t seen = first_query + first + count;
    std::vector<float> y(static_cast<size_t>(count * q_cols()), NAN);
    device.attention(shape, {q.data() + first * q_cols(), count, q_cols()},
                     {k.data(), seen, kv_cols()}, {v.data(), seen, kv_cols()}, first_query + first,
                     {y.data(), count, q_cols()});
    return y;
  }
};

// One query row of one head in float64; `bound` becomes the scale of the values it averages.
std::vector<double> naive_row(const Problem& p, int64_t row, int64_t head, double* bound) {
  const int64_t dim = p.shape.head_dim, position = p.first_query + row;
  const int64_t kv_head = head / (p.shape.heads / p.shape.kv_heads);
  const int64_t low = p.shape.window > 0 ? std::max<int64_t>(position - p.shape.window + 1, 0) : 0;
  const float* q = p.q.data() + row * p.q_cols() + head * dim;
  std::vector<double> scores;
  for (int64_t t = low; t <= position; ++t) {
    double sum = 0.0;
    for (int64_t d = 0; d < dim; ++d)
      sum += static_cast<double>(q[d]) * p.k[t * p.kv_cols() + kv_head * dim + d];
    scores.push_back(sum / std::sqrt(static_cast<double>(dim)));
  }
  const double maximum = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  for (double& s : scores)
    total += (s = std::exp(s - maximum));
  std::vector<double> y(static_cast<size_t>(dim), 0.0);
  *bound = 0.0;
  for (int64_t t = low; t <= position; ++t) {
    for (int64_t d = 0; d < dim; ++d) {
      const double value = p.v[t * p.kv_cols() + kv_head * dim + d];
      y[d] += scores[t - low] / total * value;
      *bound = std::max(*bound, std::abs(value));
    }
  }
  // A score of size s carries an error of about s eps into its weight; scores here stay below 20.
  *bound *= 20.0 * kEpsilon;
  return y;
}

double error_against_naive(const Problem& p, const std::vector<float>& y, int64_t first) {
  const int64_t dim = p.shape.head_dim;
  WorstError error;
  for (int64_t r = 0; r < static_cast<int64_t>(y.size()) / p.q_cols(); ++r) {
    for (int64_t h = 0; h < p.shape.heads; ++h) {
      double bound = 0.0;
      const auto expected = naive_row(p, first + r, h, &bound);
      for (int64_t d = 0; d < dim; ++d)
        error.add(y[r * p.q_cols() + h * dim + d], expected[d], bound);
    }
  }
  return error.value();
}

std::vector<Problem> problems() {
  return {
      Problem({1, 1, 1, 0}, 3, 0),       // smallest
      Problem({2, 2, 64, 0}, 65, 0),     // one query more than a block
      Problem({6, 2, 64, 0}, 70, 13),    // grouped heads after a prefix
      Problem({5, 1, 20, 0}, 33, 300),   // a group wider than a block, ragged head size, many keys
      Problem({8, 2, 36, 17}, 130, 40),  // window inside one key step
      Problem({2, 1, 128, 300}, 90, 600),  // window across key steps
      Problem({4, 4, 16, 1}, 40, 5),       // a window of one: y = v
      Problem({40, 8, 24, 90}, 3, 200),    // many groups: one row takes several heads at once
      Problem({3, 1, 96, 5000}, 20, 0),    // window larger than the context
  };
}

TEST_CASE("attention of many rows agrees with float64: groups, windows, prefixes, odd sizes") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    for (const Problem& p : problems()) {
      CAPTURE(p.shape.heads);
      CAPTURE(p.shape.head_dim);
      CHECK(error_against_naive(p, p.run(level.device, 0, p.queries), 0) <= 1.0);
    }
  }
}

TEST_CASE("attention of one row agrees with float64: groups, windows, prefixes, odd sizes") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    for (const Problem& p : problems()) {
      CAPTURE(p.shape.heads);
      CAPTURE(p.shape.head_dim);
      for (int64_t row : {int64_t{0}, p.queries - 1})
        CHECK(error_against_naive(p, p.run(level.device, row, 1), row) <= 1.0);
    }
  }
}

TEST_CASE("attention does not depend on how the queries are cut into chunks") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    const Problem p({6, 2, 64, 100}, 150, 21);
    const auto whole = p.run(level.device, 0, p.queries);
    for (int64_t first = 0; first < p.queries; first += 47) {
      const auto part = p.run(level.device, first, std::min<int64_t>(47, p.queries - first));
      WorstError error;
      for (size_t i = 0; i < part.size(); ++i)
        error.add(part[i], whole[first * p.q_cols() + i], 40.0 * kEpsilon);
      CHECK(error.value() <= 1.0);
    }
  }
}

TEST_CASE("attention survives scores far apart and a maximum that arrives late") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    Problem p({1, 1, 8, 0}, 2, 600);
    std::fill(p.q.begin(), p.q.end(), 10.0f);
    std::fill(p.k.begin(), p.k.end(), -10.0f);
    std::fill(p.k.end() - 16, p.k.end() - 8, 10.0f);  // key 600 outweighs all others by e^560
    for (int64_t count : {1, 2}) {
      const auto y = p.run(level.device, 0, count);
      for (int64_t d = 0; d < 8; ++d)
        CHECK(y[d] == doctest::Approx(p.v[600 * 8 + d]));
    }
  }
}

TEST_CASE("attention gives the same bits for any number of threads") {
  const ThreadsRestored restored;
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    const Problem p({6, 3, 64, 0}, 200, 30);
    for (int64_t count : {int64_t{1}, p.queries}) {
      std::vector<std::vector<float>> results;
      for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        results.push_back(p.run(level.device, 0, count));
      }
      CHECK(results[0] == results[1]);
      CHECK(results[0] == results[2]);
    }
  }
}

}  // namespace
}  // namespace abq::compute
