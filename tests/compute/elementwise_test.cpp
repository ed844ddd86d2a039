#include <algorithm>
#include <bit>

#include "compute_test_support.h"

namespace abq::compute {
namespace {

TEST_CASE("rms_norm agrees with float64, also in place") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    for (int64_t cols : {1, 3, 64, 100, 384, 4099}) {
      const int64_t rows = 5;
      auto x = random_floats(rows * cols, 1, 3.0);
      const auto weight = random_floats(cols, 2);
      std::vector<float> y(x.size());
      level.device.rms_norm({x.data(), rows, cols}, weight.data(), 1e-5f, {y.data(), rows, cols});
      WorstError error;
      for (int64_t r = 0; r < rows; ++r) {
        double squares = 0.0;
        for (int64_t i = 0; i < cols; ++i)
          squares += static_cast<double>(x[r * cols + i]) * x[r * cols + i];
        const double scale = 1.0 / std::sqrt(squares / static_cast<double>(cols) + 1e-5f);
        for (int64_t i = 0; i < cols; ++i) {
          const double expected = x[r * cols + i] * scale * weight[i];
          error.add(y[r * cols + i], expected, 1e-6 * std::abs(expected) + 1e-30);
        }
      }
      CAPTURE(cols);
      CHECK(error.value() <= 1.0);
      level.device.rms_norm({x.data(), rows, cols}, weight.data(), 1e-5f, {x.data(), rows, cols});
      CHECK(x == y);
    }
  }
}

TEST_CASE("silu_mul agrees with float64 from the far negative to the far positive") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    std::vector<float> gate;
    for (double v = -87.0; v < 100.0; v += 0.0137)
      gate.push_back(static_cast<float>(v));
    const int64_t count = static_cast<int64_t>(gate.size());
    const auto up = random_floats(count, 3);
    std::vector<float> y(gate.size());
    level.device.silu_mul({gate.data(), 1, count}, {up.data(), 1, count}, {y.data(), 1, count});
    WorstError error;
    for (size_t i = 0; i < gate.size(); ++i) {
      const double expected = gate[i] / (1.0 + std::exp(-static_cast<double>(gate[i]))) * up[i];
      error.add(y[i], expected, 1e-6 * std::abs(expected) + 1e-30);
    }
    CHECK(error.value() <= 1.0);
  }
}

TEST_CASE("silu_mul keeps NaN, passes +infinity and vanishes far below zero") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    const std::vector<float> gate = {NAN, INFINITY, -1000.0f, 0.0f};
    const std::vector<float> up(4, 2.0f);
    std::vector<float> y(4);
    level.device.silu_mul({gate.data(), 1, 4}, {up.data(), 1, 4}, {y.data(), 1, 4});
    CHECK(std::isnan(y[0]));
    CHECK(y[1] == INFINITY);
    CHECK(std::abs(y[2]) < 1e-30f);
    CHECK(y[3] == 0.0f);
  }
}

TEST_CASE("add is exact on strided rows") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    const int64_t rows = 7, cols = 37, stride = 40;
    const auto a = random_floats(rows * stride, 1), b = random_floats(rows * stride, 2);
    std::vector<float> y(static_cast<size_t>(rows * stride), -1.0f);
    level.device.add({a.data(), rows, cols, stride}, {b.data(), rows, cols, stride},
                     {y.data(), rows, cols, stride});
    bool equal = true;
    for (int64_t i = 0; i < rows * stride; ++i)
      equal = equal && y[i] == (i % stride < cols ? a[i] + b[i] : -1.0f);
    CHECK(equal);
  }
}

TEST_CASE("sum adds every float once, at every length") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    for (int64_t count : {0, 1, 63, 64, 127, 128, 129, 1000}) {
      std::vector<float> values(static_cast<size_t>(count));
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>(i % 97);  // whole numbers: any order gives the same sum
      float expected = 0.0f;
      for (const float value : values)
        expected += value;
      CHECK(level.kernels->sum(values.data(), count) == expected);
    }
  }
}

TEST_CASE("rope turns each pair by its angle, at large positions too") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    for (int head_dim : {2, 6, 64, 100}) {
      const int64_t rows = 4, heads = 3, half = head_dim / 2;
      const auto x = random_floats(rows * heads * head_dim, 1);
      const std::vector<int64_t> positions = {0, 1, 77, 100000};
      std::vector<float> frequencies;
      for (int64_t j = 0; j < half; ++j)
        frequencies.push_back(
            static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(j) / head_dim)));
      auto y = x;
      level.device.rope({y.data(), rows, heads * head_dim}, head_dim, positions.data(),
                        frequencies.data());
      WorstError error;
      for (int64_t i = 0; i < rows * heads; ++i) {
        for (int64_t j = 0; j < half; ++j) {
          const int64_t low = i * head_dim + j, high = low + half;
          const double angle = static_cast<double>(positions[i / heads]) * frequencies[j];
          const double a = x[low], b = x[high], bound = 3.0 * kEpsilon * std::hypot(a, b);
          error.add(y[low], a * std::cos(angle) - b * std::sin(angle), bound);
          error.add(y[high], b * std::cos(angle) + a * std::sin(angle), bound);
        }
      }
      CHECK(error.value() <= 1.0);
    }
  }
}

TEST_CASE("to_float converts every 16-bit pattern exactly") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    for (FloatType type : {FloatType::kF16, FloatType::kBF16}) {
      std::vector<uint16_t> in(65536);
      for (size_t i = 0; i < in.size(); ++i)
        in[i] = static_cast<uint16_t>(i);
      std::vector<float> out(in.size());
      level.kernels->to_float(type, in.data(), 65536, out.data());
      int wrong = 0;
      for (size_t i = 0; i < in.size(); ++i) {
        const float expected = type == FloatType::kF16 ? f16_to_float(in[i]) : bf16_to_float(in[i]);
        const bool same = std::isnan(expected) ? std::isnan(out[i])
                                               : std::bit_cast<uint32_t>(expected) ==
                                                     std::bit_cast<uint32_t>(out[i]);
        wrong += same ? 0 : 1;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("to_float writes exactly the elements asked for") {
  const TypedMatrix in(FloatType::kBF16, 1, 40000, 5);
  for (int64_t count : {0, 1, 5, 16, 31, 40000}) {
    std::vector<float> out(static_cast<size_t>(count) + 1, -7.0f);
    to_float(in.type, in.bits.data(), count, out.data());
    CHECK(std::equal(out.begin(), out.end() - 1, in.values.begin()));
    CHECK(out.back() == -7.0f);
  }
}

TEST_CASE("row-wise functions give the same bits for any number of threads") {
  const ThreadsRestored restored;
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    const int64_t rows = 200, cols = 517;
    const auto a = random_floats(rows * cols, 1), b = random_floats(rows * cols, 2);
    std::vector<std::vector<float>> results;
    for (int threads : {1, 2, 3}) {
      set_num_threads(threads);
      std::vector<float> y(a.size());
      level.device.silu_mul({a.data(), rows, cols}, {b.data(), rows, cols}, {y.data(), rows, cols});
      level.device.rms_norm({y.data(), rows, cols}, b.data(), 1e-6f, {y.data(), rows, cols});
      results.push_back(y);
    }
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
  }
}

}  // namespace
}  // namespace abq::compute
