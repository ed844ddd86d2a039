// Weights and tokens on the device, and what kernels make of them.
#pragma once

#include <doctest/doctest.h>

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/cuda/device_array.h"
#include "runtime/cuda/linear_kernels.h"
#include "tests/runtime/cuda/linear_cases.h"

namespace abq::runtime::cuda {

// The test ends where a Status is an error.
#define ABQ_REQUIRE_OK(expression)                                      \
  do {                                                                  \
    const ::abq::Status abq_test_status = (expression);                 \
    REQUIRE_MESSAGE(abq_test_status.ok(), abq_test_status.to_string()); \
  } while (false)

template <class T>
T required(Result<T> result) {
  REQUIRE_MESSAGE(result.ok(), result.status().to_string());
  return std::move(result).value();
}

template <class T>
DeviceArray<T> uploaded(const std::vector<T>& values) {
  auto array = required(DeviceArray<T>::create(static_cast<int64_t>(values.size())));
  ABQ_REQUIRE_OK(array.upload(values));
  return array;
}

class DeviceTokens {
 public:
  explicit DeviceTokens(const HostTokens& x)
      : m_(x.m),
        k_(x.k),
        bits_(x.bits),
        planes_(uploaded(x.planes)),
        codes_(uploaded(x.codes)),
        scales_(uploaded(x.scales)),
        zeros_(uploaded(x.zeros)),
        sums_(uploaded(x.sums)),
        group_sums_(uploaded(x.group_sums)) {}
  TokenTiles view() {
    return {m_,
            k_,
            bits_,
            planes_.data(),
            codes_.data(),
            scales_.data(),
            zeros_.data(),
            sums_.data(),
            group_sums_.data()};
  }

 private:
  int m_;
  int k_;
  int bits_;
  DeviceArray<uint32_t> planes_;
  DeviceArray<uint8_t> codes_;
  DeviceArray<float> scales_;
  DeviceArray<int32_t> zeros_;
  DeviceArray<int32_t> sums_;
  DeviceArray<int32_t> group_sums_;
};

class DeviceTiles {
 public:
  DeviceTiles(const std::vector<const StoredWeights*>& parts, bool gated) {
    const TilesPlan plan = required(plan_tiles(parts, gated));
    memory_ = required(DeviceArray<std::byte>::create(plan.bytes));
    REQUIRE(cudaMemset(memory_.data(), 0x5a, static_cast<size_t>(plan.bytes)) == cudaSuccess);
    view_ = required(fill_tiles(plan, parts, memory_.data(), nullptr));
  }
  const WeightTiles& view() const { return view_; }

 private:
  DeviceArray<std::byte> memory_;
  WeightTiles view_;
};

// One linear: parts stacked or gated, tokens, and the numbers to expect.
class LinearCase {
 public:
  LinearCase(const quant::WeightSpec& spec, std::vector<int64_t> rows, bool gated, int bits,
             int64_t m, int64_t k)
      : gated_(gated), x_(random_tokens(bits, m, k, seed(m, k))) {
    std::vector<const quant::QuantizedWeights*> parts;
    std::vector<const StoredWeights*> views;
    for (size_t i = 0; i < rows.size(); ++i) {
      weights_.push_back(std::make_unique<quant::QuantizedWeights>(
          random_weights(spec, rows[i], k, seed(rows[i], k) + i)));
      stored_.push_back(std::make_unique<StoredCase>(*weights_.back()));
      parts.push_back(weights_.back().get());
      views.push_back(&stored_.back()->view);
    }
    all_ = stack(parts);
    products_ = quant::reference_code_products(x_, all_);
    tiles_ = std::make_unique<DeviceTiles>(views, gated);
    tokens_ = std::make_unique<DeviceTokens>(HostTokens(x_));
    name_ = fmt::format("w{}{}a{} M={} N={} K={} group {}{}{}", spec.bits, spec.balanced ? "b" : "",
                        bits, m, all_.n, k, spec.group_size, gated ? " gated" : "",
                        rows.size() > 1 ? " parts" : "");
  }

  const std::string& name() const { return name_; }
  const WeightTiles& tiles() const { return tiles_->view(); }
  TokenTiles tokens() { return tokens_->view(); }
  const std::vector<int64_t>& products() const { return products_; }
  int64_t columns() const { return gated_ ? all_.n / 2 : all_.n; }
  LinearProblem problem() const {
    const WeightTiles& w = tiles_->view();
    return {w.planes, w.encoding, w.group_size, x_.bits, x_.m, w.n, w.k};
  }

  // launch(output): starts the kernel on the default stream. Checks raw sums and y.
  template <class Launch>
  void check(const std::string& kernel, const Launch& launch, bool with_residual = false) {
    check_raw(kernel, launch);
    std::vector<float> residual(static_cast<size_t>(x_.m * columns()));
    Random random(17);
    for (float& value : residual)
      value = static_cast<float>(random.normal());
    const std::vector<float> y = run(launch, with_residual ? &residual : nullptr);
    check_outputs(kernel, y, with_residual ? &residual : nullptr);
    CHECK_MESSAGE(run(launch, with_residual ? &residual : nullptr) == y, kernel, " ", name_,
                  ": the second run differs from the first");
  }

 private:
  static uint64_t seed(int64_t a, int64_t b) { return static_cast<uint64_t>(1000003 * a + b); }

  template <class Launch>
  void check_raw(const std::string& kernel, const Launch& launch) {
    auto raw = uploaded(std::vector<int64_t>(products_.size(), int64_t{-0x5a5a5a5a5a5a}));
    LinearOutput output;
    output.raw = raw.data();
    ABQ_REQUIRE_OK(launch(output));
    REQUIRE_MESSAGE(cudaDeviceSynchronize() == cudaSuccess, kernel, " ", name_,
                    ": raw sums: ", cudaGetErrorString(cudaGetLastError()));
    const std::vector<int64_t> got = required(raw.download());
    const int64_t groups = tiles().groups;
    for (size_t i = 0; i < got.size(); ++i) {
      if (got[i] == products_[i]) continue;
      const int64_t at = static_cast<int64_t>(i);
      FAIL_CHECK(kernel << " " << name_ << ": sum of token " << at / groups / all_.n << ", row "
                        << at / groups % all_.n << ", group " << at % groups << ": got " << got[i]
                        << ", expected " << products_[i]);
      return;
    }
    CHECK(got == products_);
  }

  // y with rows of an odd stride, poisoned; the residual is y itself when there is one.
  template <class Launch>
  std::vector<float> run(const Launch& launch, const std::vector<float>* residual) {
    const int64_t stride = columns() + 3;
    std::vector<float> start(static_cast<size_t>(x_.m * stride), poison());
    if (residual != nullptr)
      for (int64_t token = 0; token < x_.m; ++token)
        std::copy_n(residual->begin() + token * columns(), columns(),
                    start.begin() + token * stride);
    auto y = uploaded(start);
    LinearOutput output;
    output.y = y.data();
    output.stride = stride;
    output.residual = residual != nullptr ? y.data() : nullptr;
    output.residual_stride = stride;
    ABQ_REQUIRE_OK(launch(output));
    REQUIRE_MESSAGE(cudaDeviceSynchronize() == cudaSuccess, name_, ": ",
                    cudaGetErrorString(cudaGetLastError()));
    const std::vector<float> all = required(y.download());
    std::vector<float> result;
    for (int64_t token = 0; token < x_.m; ++token) {
      const auto row = all.begin() + token * stride;
      result.insert(result.end(), row, row + columns());
      for (int64_t i = columns(); i < stride; ++i)
        REQUIRE_MESSAGE(row[i] == poison(), name_, ": written beyond column ", columns());
    }
    return result;
  }
  static float poison() { return -1.2345e30f; }

  void check_outputs(const std::string& kernel, const std::vector<float>& y,
                     const std::vector<float>* residual) {
    const Expected expected = expected_outputs(x_, all_, products_);
    for (int64_t token = 0; token < x_.m; ++token)
      for (int64_t column = 0; column < columns(); ++column) {
        const auto at = static_cast<size_t>(token * columns() + column);
        auto [value, bound] = output_of(expected, token, column);
        if (residual != nullptr) {
          value += static_cast<double>((*residual)[at]);
          bound += std::abs(value) * kRounding;
        }
        const double error = std::abs(static_cast<double>(y[at]) - value);
        if (error <= bound + std::abs(value) * kRounding) continue;
        FAIL_CHECK(kernel << " " << name_ << ": y of token " << token << ", column " << column
                          << ": got " << y[at] << ", expected " << value << " within " << bound);
        return;
      }
    CHECK(y.size() == static_cast<size_t>(x_.m * columns()));
  }

  std::pair<double, double> output_of(const Expected& expected, int64_t token,
                                      int64_t column) const {
    const auto low = static_cast<size_t>(token * all_.n + column);
    if (!gated_) return {expected.y[low], expected.bound[low]};
    const size_t high = low + static_cast<size_t>(all_.n / 2);
    const double gate = expected.y[low];
    const double silu = gate / (1.0 + std::exp(-gate));
    // |silu'| < 1.1; exp, sum, quotient and product round a few times each.
    const double bound = 1.1 * expected.bound[low] * std::abs(expected.y[high]) +
                         std::abs(silu) * expected.bound[high] +
                         8 * kRounding * std::abs(silu * expected.y[high]) +
                         1.1 * expected.bound[low] * expected.bound[high];
    return {silu * expected.y[high], bound};
  }

  bool gated_;
  quant::QuantizedTokens x_;
  std::vector<std::unique_ptr<quant::QuantizedWeights>> weights_;
  std::vector<std::unique_ptr<StoredCase>> stored_;
  quant::QuantizedWeights all_;
  std::vector<int64_t> products_;
  std::unique_ptr<DeviceTiles> tiles_;
  std::unique_ptr<DeviceTokens> tokens_;
  std::string name_;
};

}  // namespace abq::runtime::cuda
