#include "compute/hadamard.h"

#include <algorithm>
#include <bit>

#include "compute/paley.h"
#include "compute/random_orthogonal.h"
#include "compute/reference/reference_device.h"
#include "compute_test_support.h"

namespace abq::compute {
namespace {

// The transform of one segment as docs/rotation.md orders it, addition by addition.
std::vector<float> transformed(std::vector<float> x, bool transposed) {
  const auto size = static_cast<int64_t>(x.size());
  const HadamardFactors& factors = hadamard_factors(size);
  for (int64_t h = 1; h < factors.length; h *= 2) {
    for (int64_t i = 0; i < size; ++i) {
      if ((i & h) != 0) continue;
      const float a = x[i], b = x[i + h];
      x[i] = a + b;
      x[i + h] = a - b;
    }
  }
  std::vector<float> y = x;
  const std::vector<float>& mix = transposed ? factors.mix_transposed : factors.mix;
  for (int64_t i = 0; factors.order > 1 && i < size; ++i) {
    y[i] = 0.0f;
    for (int64_t j = 0; j < factors.order; ++j) {
      const float sign = mix[i / factors.length * factors.order + j];
      y[i] += sign * x[j * factors.length + i % factors.length];
    }
  }
  for (float& v : y)
    v *= factors.scale();
  return y;
}

TEST_CASE("Paley matrices are orthogonal matrices of 1 and -1") {
  int found = 0;
  for (int64_t order = 4; order <= 400; order += 4) {
    if (!has_paley(order)) continue;
    ++found;
    CAPTURE(order);
    const std::vector<float> h = paley_matrix(order);
    CHECK(std::all_of(h.begin(), h.end(), [](float v) { return v == 1.0f || v == -1.0f; }));
    bool orthogonal = true;
    for (int64_t i = 0; i < order; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        float sum = 0.0f;
        for (int64_t k = 0; k < order; ++k)
          sum += h[i * order + k] * h[j * order + k];
        orthogonal = orthogonal && sum == (i == j ? static_cast<float>(order) : 0.0f);
      }
    }
    CHECK(orthogonal);
  }
  CHECK(found >= 55);
}

TEST_CASE("orders come from primes and their squares and cubes") {
  // 28 also from 3^3 and from 13, 52 from 5^2, 344 from 7^3, 148 from 73.
  for (const int64_t order :
       {4, 8, 12, 20, 24, 28, 36, 44, 52, 60, 68, 76, 84, 100, 108, 124, 140, 148, 164, 344}) {
    CAPTURE(order);
    CHECK(has_paley(order));
  }
  for (const int64_t order : {0, 1, 2, 3, 6, 10, 30, 92, 116, 156, 172, 2048}) {
    CAPTURE(order);
    CHECK_FALSE(has_paley(order));
  }
}

TEST_CASE("sizes of Hadamard matrices take the least order") {
  struct Row {
    int64_t size, order;
  };
  for (const Row& row : {Row{1, 1}, Row{2, 1}, Row{64, 1}, Row{12, 12}, Row{384, 12}, Row{40, 20},
                         Row{96, 12}, Row{5120, 20}, Row{14336, 28}, Row{13824, 108},
                         Row{11008, 344}, Row{18944, 148}, Row{28672, 28}, Row{17920, 140}}) {
    CAPTURE(row.size);
    REQUIRE(has_hadamard(row.size));
    CHECK(hadamard_factors(row.size).order == row.order);
    CHECK(hadamard_factors(row.size).size() == row.size);
  }
  for (const int64_t size : {0, 3, 6, 10, 92, 172, 184}) {
    CAPTURE(size);
    CHECK_FALSE(has_hadamard(size));
  }
  CHECK(largest_hadamard(384) == 384);
  CHECK(largest_hadamard(92) == 4);
  CHECK(largest_hadamard(9 * 344) == 3 * 344);
  CHECK(largest_hadamard(7) == 1);
  CHECK(largest_hadamard(11008, 64) == 256);
  CHECK(largest_hadamard(11008, 344) == 11008);
}

TEST_CASE("in front of 8 bits and more, transforms at run time mix few parts") {
  struct Row {
    int64_t columns, fine, coarse;
  };
  for (const Row& row :
       {Row{4096, 4096, 4096}, Row{11008, 256, 11008}, Row{13824, 4608, 13824},
        Row{14336, 14336, 14336}, Row{17920, 3584, 17920}, Row{18944, 512, 18944}}) {
    CAPTURE(row.columns);
    CHECK(online_hadamard(row.columns, 8) == row.fine);
    CHECK(online_hadamard(row.columns, 16) == row.fine);
    CHECK(online_hadamard(row.columns, 7) == row.coarse);
  }
}

TEST_CASE("the transform has the same bits on every level") {
  for (const Level& level : levels()) {
    CAPTURE(level.name);
    for (const int64_t size : {1, 2, 4, 8, 16, 64, 128, 1024, 12, 24, 48, 96, 384, 28, 5120, 344}) {
      for (const bool transposed : {false, true}) {
        CAPTURE(size);
        const int64_t rows = 3, cols = 3 * size, stride = cols + 5;
        const auto x = random_floats(rows * stride, 5);
        auto y = x;
        level.device.hadamard({y.data(), rows, cols, stride}, size, transposed);
        auto expected = x;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t first = 0; first < cols; first += size) {
            const auto segment = expected.begin() + r * stride + first;
            const auto result = transformed({segment, segment + size}, transposed);
            std::copy(result.begin(), result.end(), segment);
          }
        }
        CHECK(std::equal(y.begin(), y.end(), expected.begin(), [](float a, float b) {
          return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
        }));
      }
    }
  }
}

TEST_CASE("the transform is the matrix of its definition and its transpose the way back") {
  const Device& reference = reference_device();
  for (const int64_t size : {8, 12, 48, 96, 1024, 344}) {
    CAPTURE(size);
    const int64_t rows = 2, cols = 2 * size;
    const auto x = random_floats(rows * cols, 6);
    auto fast = x, slow = x;
    cpu_device().hadamard({fast.data(), rows, cols}, size, false);
    reference.hadamard({slow.data(), rows, cols}, size, false);
    WorstError forward, back;
    // Every value is a sum of `size` terms of about its own size over sqrt(size).
    const double bound = 8 * kEpsilon * std::sqrt(std::log2(static_cast<double>(size)) + 400.0);
    for (size_t i = 0; i < x.size(); ++i)
      forward.add(fast[i], slow[i], bound);
    CHECK(forward.value() <= 1.0);
    cpu_device().hadamard({fast.data(), rows, cols}, size, true);
    for (size_t i = 0; i < x.size(); ++i)
      back.add(fast[i], x[i], bound);
    CHECK(back.value() <= 1.0);
  }
}

TEST_CASE(
    "a random orthogonal matrix is orthogonal, its seed's own, and the same for any threads") {
  const ThreadsRestored restored;
  const int64_t size = 100;
  set_num_threads(1);
  const std::vector<float> q = random_orthogonal(size, 3);
  set_num_threads(3);
  CHECK(random_orthogonal(size, 3) == q);
  CHECK(random_orthogonal(size, 4) != q);
  WorstError error;
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < size; ++k)
        sum += static_cast<double>(q[i * size + k]) * q[j * size + k];
      error.add(sum, i == j ? 1 : 0, 2 * kEpsilon);
    }
  }
  CHECK(error.value() <= 1.0);
}

}  // namespace
}  // namespace abq::compute
