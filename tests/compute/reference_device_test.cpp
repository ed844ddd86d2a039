#include "compute/reference/reference_device.h"

#include "compute_test_support.h"
#include "tensor_device_checks.h"

namespace abq::compute {
namespace {

// The largest difference of two results, in float32 steps of the largest value.
double steps_apart(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::fmax(difference, std::abs(static_cast<double>(a[i]) - b[i]));
    largest = std::fmax(largest, std::abs(static_cast<double>(a[i])));
  }
  return difference / (kEpsilon * largest);
}

// What `operation(device, out)` leaves in `size` floats, on the reference and on the CPU device.
template <class Operation>
double disagreement(size_t size, const Operation& operation) {
  std::vector<float> reference(size), cpu(size);
  operation(reference_device(), reference.data());
  operation(cpu_device(), cpu.data());
  return steps_apart(reference, cpu);
}

// Weights that are computed: 1 / (1 + row + column).
struct Harmonic final : WeightSource {
  int64_t rows() const override { return 140; }
  int64_t cols() const override { return 384; }
  void read(int64_t first_row, int64_t row_count, int64_t first_col, int64_t col_count, float* out,
            int64_t stride) const override {
    for (int64_t r = 0; r < row_count; ++r)
      for (int64_t c = 0; c < col_count; ++c)
        out[r * stride + c] = 1.0f / static_cast<float>(1 + first_row + r + first_col + c);
  }
};

TEST_CASE("the reference and the CPU device agree on products in every float type") {
  const int64_t m = 9;
  for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
    const TypedMatrix w(type, 300, 130, 7);
    const auto x = random_floats(m * w.cols, 11);
    CHECK(disagreement(static_cast<size_t>(m * w.rows), [&](const Device& device, float* y) {
            device.linear({x.data(), m, w.cols}, w.view(), {y, m, w.rows});
          }) < 8);
  }
  const Harmonic source;
  const auto x = random_floats(m * source.cols(), 12);
  CHECK(disagreement(static_cast<size_t>(m * source.rows()), [&](const Device& device, float* y) {
          device.linear({x.data(), m, source.cols()}, source, {y, m, source.rows()});
        }) < 8);
  const auto b = random_floats(source.cols() * 21, 13);
  CHECK(disagreement(static_cast<size_t>(m * 21), [&](const Device& device, float* y) {
          device.matmul({x.data(), m, source.cols()}, {b.data(), source.cols(), 21}, {y, m, 21});
        }) < 8);
}

TEST_CASE("the reference and the CPU device agree on rows and elements") {
  const int64_t m = 5, cols = 96;
  const auto a = random_floats(m * cols, 1), b = random_floats(m * cols, 2);
  const MatrixView<const float> x(a.data(), m, cols), other(b.data(), m, cols);
  const auto size = static_cast<size_t>(m * cols);
  CHECK(disagreement(size, [&](const Device& device, float* y) {
          device.rms_norm(x, b.data(), 1e-5f, {y, m, cols});
        }) < 4);
  CHECK(disagreement(size, [&](const Device& device, float* y) {
          device.silu_mul(x, other, {y, m, cols});
        }) < 4);
  CHECK(disagreement(size, [&](const Device& device, float* y) {
          device.add(x, other, {y, m, cols});
        }) == 0);
  const std::vector<int64_t> positions = {0, 1, 77, 4000, 100000};
  const auto frequencies = random_floats(16, 3, 0.1);
  CHECK(disagreement(size, [&](const Device& device, float* y) {
          std::copy(a.begin(), a.end(), y);
          device.rope({y, m, cols}, 32, positions.data(), frequencies.data());
        }) < 4);
}

TEST_CASE("the reference and the CPU device agree on attention: groups, windows, prefixes") {
  for (const AttentionShape& shape :
       {AttentionShape{2, 2, 16, 0}, AttentionShape{6, 2, 64, 0}, AttentionShape{4, 1, 20, 7}}) {
    const int64_t m = 33, first = 12;
    const int64_t q_cols = shape.heads * shape.head_dim, kv_cols = shape.kv_heads * shape.head_dim;
    const auto q = random_floats(m * q_cols, 1);
    const auto k = random_floats((first + m) * kv_cols, 2);
    const auto v = random_floats((first + m) * kv_cols, 3);
    CHECK(disagreement(static_cast<size_t>(m * q_cols), [&](const Device& device, float* y) {
            device.attention(shape, {q.data(), m, q_cols}, {k.data(), first + m, kv_cols},
                             {v.data(), first + m, kv_cols}, first, {y, m, q_cols});
          }) < 16);
  }
}

TEST_CASE("reference tensors show NaN in statistics and clip factors and quantize NaN as code 0") {
  check_nan_of_ranges(*create_reference_tensor_device());
}

TEST_CASE("the reference reads strided operands and writes nothing beside its result") {
  const std::vector<float> x = {1, 2, -9, 3, 4, -9};
  const std::vector<float> w = {1, 1, 1, -1};
  std::vector<float> y(6, 7.0f);
  reference_device().linear({x.data(), 2, 2, 3}, {FloatType::kF32, w.data(), 2, 2},
                            {y.data(), 2, 2, 3});
  CHECK(y == std::vector<float>{3, -1, 7, 7, -1, 7});
}

}  // namespace
}  // namespace abq::compute
