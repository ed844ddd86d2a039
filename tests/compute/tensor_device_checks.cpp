#include "tensor_device_checks.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "compute_test_support.h"

namespace abq::compute {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<Tensor> run(TensorDevice& device, const TensorCase& c) {
  std::vector<Tensor> inputs;
  for (const HostMatrix& x : c.inputs)
    inputs.push_back(x.rows == 0 ? Tensor() : device.upload(x.values, x.rows, x.cols));
  return c.run(device, inputs);
}

std::vector<float> downloaded(TensorDevice& device, const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.size()));
  if (!x.empty()) device.download(x, values);
  return values;
}

// Leaves NaN in the blocks that the device's pool will hand out for results of a case.
void spoil_memory(TensorDevice& device, const TensorCase& c) {
  std::vector<Tensor> spoiled;
  for (const Tensor& x : run(device, c)) {
    for (int copies = 0; copies < 3; ++copies)
      spoiled.push_back(device.filled(x.rows(), x.cols(), kNaN));
  }
}

void check_shapes(const std::vector<Tensor>& got, const std::vector<Tensor>& expected) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CHECK(got[i].rows() == expected[i].rows());
    CHECK(got[i].cols() == expected[i].cols());
  }
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float u, float v) {
    return std::bit_cast<uint32_t>(u) == std::bit_cast<uint32_t>(v);
  });
}

}  // namespace

std::vector<std::vector<float>> results_on(TensorDevice& device, const TensorCase& c) {
  std::vector<std::vector<float>> results;
  for (const Tensor& x : run(device, c))
    results.push_back(downloaded(device, x));
  return results;
}

void check_matches_reference(TensorDevice& device, const std::vector<TensorCase>& cases) {
  const auto reference = create_reference_tensor_device();
  for (const TensorCase& c : cases) {
    CAPTURE(c.name);
    const auto got = results_on(device, c);
    const auto expected = results_on(*reference, c);
    REQUIRE(got.size() == expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      CAPTURE(i);
      REQUIRE(got[i].size() == expected[i].size());
      double largest = 0;
      for (const float v : expected[i])
        largest = std::fmax(largest, std::abs(static_cast<double>(v)));
      WorstError error;
      for (size_t j = 0; j < got[i].size(); ++j)
        error.add(got[i][j], expected[i][j], c.steps * kEpsilon * largest + 1e-35);
      CHECK(error.value() <= 1.0);
    }
    spoil_memory(device, c);
    const auto again = results_on(device, c);
    for (size_t i = 0; i < got.size(); ++i)
      CHECK(same_bits(got[i], again[i]));
  }
  CHECK(device.status().ok());
}

void check_memory(TensorDevice& device) {
  const HostMatrix x = random_matrix(6, 5, 1);
  const Tensor tensor = device.upload(x.values, 6, 5);
  CHECK(downloaded(device, tensor) == x.values);
  const Tensor copy = device.copy(tensor);
  device.assign(tensor, device.filled(6, 5, 2.5f));
  CHECK(downloaded(device, tensor) == std::vector<float>(30, 2.5f));
  CHECK(downloaded(device, copy) == x.values);

  const std::vector<float> rows(x.values.begin() + 10, x.values.begin() + 20);
  CHECK(downloaded(device, copy.row_range(2, 2)) == rows);
  CHECK(downloaded(device, copy.view(10, 5, 2)) == rows);
  device.assign(copy.row_range(0, 2), copy.row_range(2, 2).reshaped(1, 10));
  std::vector<float> moved = x.values;
  std::copy(rows.begin(), rows.end(), moved.begin());
  CHECK(downloaded(device, copy) == moved);

  const int64_t free = device.free_bytes();
  CHECK(free > 0);
  const int64_t bytes = int64_t{64} << 20;
  { const Tensor large = device.filled(bytes / 4096, 1024, 1.0f); }
  CHECK(device.peak_bytes() >= bytes);
  CHECK(device.status().ok());
}

void check_shows_nan(TensorDevice& device) {
  HostMatrix x = random_matrix(4, 4, 1);
  const Tensor target = device.upload(x.values, 4, 4);
  x.values[5] = kNaN;
  const Tensor y = device.upload(x.values, 4, 4);
  CHECK(std::isnan(downloaded(device, device.mean_cosine(y, target))[0]));
  CHECK(std::isnan(downloaded(device, device.mean_squared_error(y, target))[0]));
  CHECK(std::isnan(downloaded(device, device.symmetric_divergence(y, target))[0]));
  const Tensor loss = device.filled(1, 1, kNaN);
  CHECK(std::isnan(downloaded(device, device.negative_log_abs(loss))[0]));
  const auto normed = downloaded(device, device.rms_norm(y, device.filled(1, 4, 1.0f), 1e-5f));
  CHECK(std::isnan(normed[4]));
  CHECK(!std::isnan(normed[0]));
}

void check_sticky_error(TensorDevice& device) {
  const Tensor before = device.filled(3, 4, 1.0f);
  const Tensor huge = device.allocate(int64_t{1} << 30, int64_t{1} << 20);
  CHECK(huge.rows() == int64_t{1} << 30);
  CHECK(huge.cols() == int64_t{1} << 20);
  CHECK(!huge.empty());
  const Status status = device.status();
  CHECK(status.code() == StatusCode::kDevice);
  CHECK(!status.message().empty());

  const Tensor sum = device.add(before, before);
  CHECK(sum.rows() == 3);
  CHECK(sum.cols() == 4);
  for (const float v : downloaded(device, sum.row_range(1, 2)))
    CHECK(std::isnan(v));
  // Every function runs through without touching memory; shapes are as ever.
  const auto reference = create_reference_tensor_device();
  for (const TensorCase& c : all_tensor_cases()) {
    CAPTURE(c.name);
    check_shapes(run(device, c), run(*reference, c));
  }
  CHECK(device.status().message() == status.message());
}

}  // namespace abq::compute
