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

void check_rounded_weights(TensorDevice& device) {
  const auto same = [&](const Tensor& x, const std::vector<float>& expected) {
    const auto got = downloaded(device, x);
    REQUIRE(got.size() == expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      CAPTURE(i);
      CHECK((got[i] == expected[i] || (std::isnan(got[i]) && std::isnan(expected[i]))));
    }
  };
  // Four levels about the zero point 1: the whole numbers -1 .. 2.
  const std::vector<float> offsets = {-1.5f, -1.4f, -0.5f, 0.5f, 1.5f, 2.5f, 2.6f, kNaN, 1e30f};
  const auto count = static_cast<int64_t>(offsets.size());
  const std::vector<float> dy = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const Tensor x = device.upload(offsets, 1, count), d = device.upload(dy, 1, count);
  const Tensor half = device.filled(1, 1, 0.5f), one = device.filled(1, 1, 1.0f);
  const WeightQuantizer four{.levels = 4};
  same(device.rounded_weight(x, half, one, four), {-0.5f, -0.5f, 0, 0, 1, 1, 1, kNaN, 1});
  const auto gradient = device.rounded_weight_backward(x, half, one, four, d, true);
  same(gradient.offsets, {0, 1, 1.5f, 2, 2.5f, 3, 0, 0, 0});
  same(gradient.scales, {kNaN});
  const auto scale_of_seven =
      device.rounded_weight_backward(x.view(0, 1, 7), half, one, four, d.view(0, 1, 7), false);
  CHECK(scale_of_seven.offsets.empty());
  same(scale_of_seven.scales, {-1.0f - 2.0f + 10.0f + 12.0f + 14.0f});

  // Signs, without zeros; groups of 5 share a scale.
  const std::vector<float> weights = {-0.0f, 1.0f, -1.0f, 1.25f, kNaN,
                                      -0.5f, 0.5f, -2.0f, 2.0f,  0.0f};
  const Tensor w = device.upload(weights, 1, 10), ones = device.filled(1, 10, 1.0f);
  const Tensor scales = device.upload(std::vector<float>{0.5f, 2.0f}, 1, 2);
  const WeightQuantizer binary{.kind = WeightQuantizer::Kind::kBinary, .group_size = 5};
  same(device.rounded_weight(w, scales, {}, binary),
       {0.5f, 0.5f, -0.5f, 0.5f, kNaN, -2, 2, -2, 2, 2});
  const auto signs = device.rounded_weight_backward(w, scales, {}, binary, ones, true);
  same(signs.offsets, {0.5f, 0.5f, 0.5f, 0, 0, 2, 2, 0, 0, 2});
  same(signs.scales, {kNaN, 1});
}

void check_shows_nan(TensorDevice& device) {
  HostMatrix x = random_matrix(4, 4, 1);
  const Tensor target = device.upload(x.values, 4, 4);
  x.values[5] = kNaN;
  const Tensor y = device.upload(x.values, 4, 4);
  CHECK(std::isnan(downloaded(device, device.mean_cosine(y, target))[0]));
  CHECK(std::isnan(downloaded(device, device.mean_squared_error(y, target))[0]));
  CHECK(std::isnan(downloaded(device, device.symmetric_divergence(y, target))[0]));
  CHECK(std::isnan(downloaded(device, device.logit_divergence(y, target))[0]));
  CHECK(std::isnan(downloaded(device, device.logit_divergence(target, y))[0]));
  const Tensor loss = device.filled(1, 1, kNaN);
  CHECK(std::isnan(downloaded(device, device.negative_log_abs(loss))[0]));
  const auto normed = downloaded(device, device.rms_norm(y, device.filled(1, 4, 1.0f), 1e-5f));
  CHECK(std::isnan(normed[4]));
  CHECK(!std::isnan(normed[0]));
}

namespace {

using Kind = WeightQuantizer::Kind;

// With a range, and with levels that reach the bound of a symmetric one.
constexpr WeightQuantizer kRangeQuantizers[] = {{Kind::kAsymmetric, 16, 15, 8, 0},
                                                {Kind::kSymmetric, 17, 16, 8, 0}};

void check_nan_in_statistics(TensorDevice& device) {
  const int64_t rows = 300, cols = 70;
  for (const int64_t row : {0, 41, 299}) {
    HostMatrix x = random_matrix(rows, cols, 1);
    x.values[static_cast<size_t>(row * cols + 7)] = kNaN;
    const auto y =
        downloaded(device, device.column_statistics(device.upload(x.values, rows, cols)));
    CAPTURE(row);
    for (size_t i = 0; i < y.size(); ++i) {
      CAPTURE(i);
      CHECK(std::isnan(y[i]) == (i % cols == 7));
    }
  }
}

void check_nan_clip_factor(TensorDevice& device) {
  const int64_t rows = 3, cols = 45;
  const Tensor w = device.upload(random_matrix(rows, cols, 1).values, rows, cols);
  const Tensor whole = device.filled(rows, 1, 0.9f);
  const Tensor broken = device.upload(std::vector<float>{0.9f, kNaN, 0.9f}, rows, 1);
  for (const WeightQuantizer& quantizer : kRangeQuantizers) {
    for (const auto& [low, high] : {TensorPair{broken, whole}, TensorPair{whole, broken}}) {
      const auto y = downloaded(device, device.fake_quantize_weight(w, low, high, quantizer));
      for (size_t i = 0; i < y.size(); ++i) {
        CAPTURE(i);
        CHECK(std::isnan(y[i]) == (i / cols == 1));
      }
    }
  }
}

// One NaN in a row with a minimum of code 0: the others are as with 0 in its place, which moves no
// range, and NaN stands where the minimum does.
void check_nan_elements(TensorDevice& device) {
  const int64_t rows = 2, cols = 45;
  const size_t lowest = 6, nan = 5;
  HostMatrix x = random_matrix(rows, cols, 1);
  x.values[lowest] = -10.0f;
  x.values[nan] = 0.0f;
  const Tensor with_zero = device.upload(x.values, rows, cols);
  x.values[nan] = kNaN;
  const Tensor with_nan = device.upload(x.values, rows, cols);
  const auto check_forward = [&](const auto& quantize) {
    const auto y = downloaded(device, quantize(with_nan));
    auto expected = downloaded(device, quantize(with_zero));
    expected[nan] = expected[lowest];
    CHECK(same_bits(y, expected));
  };
  const auto check_backward = [&](const Tensor& gradient) {
    const auto d = downloaded(device, gradient);
    CHECK(d[nan] == 0.0f);
    for (const float v : d)
      CHECK(!std::isnan(v));
  };
  const Tensor dy = device.upload(random_matrix(rows, cols, 2).values, rows, cols);
  check_forward([&](const Tensor& t) { return device.fake_quantize_tokens(t, 4, cols); });
  check_backward(device.fake_quantize_tokens_backward(with_nan, 4, cols, dy));
  const Tensor clip = device.filled(rows, 1, 1.0f);
  for (const WeightQuantizer& quantizer : kRangeQuantizers) {
    check_forward(
        [&](const Tensor& t) { return device.fake_quantize_weight(t, {}, {}, quantizer); });
    const auto d = device.fake_quantize_weight_backward(with_nan, clip, clip, quantizer, dy);
    check_backward(d.w);
    for (const Tensor& factors : {d.clip_low, d.clip_high})
      for (const float v : downloaded(device, factors))
        CHECK(!std::isnan(v));
  }
}

}  // namespace

void check_nan_of_ranges(TensorDevice& device) {
  check_nan_in_statistics(device);
  check_nan_clip_factor(device);
  check_nan_elements(device);
  CHECK(device.status().ok());
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
