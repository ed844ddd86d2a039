// The half kernels on the device against float64, over code widths, groups, shapes and epilogues.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <bit>
#include <cstdlib>
#include <limits>

#include "half_test_util.h"
#include "half_times.h"
#include "quant/scheme.h"
#include "runtime/cuda/device_array.h"
#include "runtime/cuda/half/half_linear.h"

namespace abq::runtime::cuda {
namespace {

constexpr uint32_t kPoison = 0x7fc0dead;  // a NaN that no kernel makes

template <class T>
DeviceArray<T> on_device(const std::vector<T>& values) {
  auto array = DeviceArray<T>::create(static_cast<int64_t>(values.size()));
  REQUIRE_MESSAGE(array.ok(), array.status().to_string());
  const Status copied = array->upload(values);
  REQUIRE_MESSAGE(copied.ok(), copied.to_string());
  return std::move(array).value();
}

struct DeviceTiles {
  DeviceArray<uint32_t> tiles;
  DeviceArray<float> scales;
  DeviceArray<int32_t> zeros;
  WeightTiles view;
};
DeviceTiles upload_tiles(const HostTiles& host) {
  DeviceTiles device{on_device(host.tiles), on_device(host.scales), on_device(host.zeros),
                     host.shape};
  device.view.tiles = device.tiles.data();
  device.view.scales = device.scales.data();
  device.view.zeros = device.zeros.data();
  device.view.tile_bytes = device.tiles.bytes();
  return device;
}

// Weights and both operands' forms of one shape.
struct Case {
  quant::QuantizedWeights weights;
  bool gated = false;
  std::vector<double> values;  // weights as numbers [n, k]
  DeviceTiles tiles;

  Case(const quant::WeightSpec& spec, int64_t n, int64_t k, bool is_gated)
      : weights(random_codes(static_cast<uint64_t>(17 * n + k + spec.bits), spec, n, k)),
        gated(is_gated),
        tiles(upload_tiles(make_tiles(weights, is_gated))) {
    const int64_t groups = spec.groups(k);
    for (int64_t i = 0; i < n * k; ++i) {
      const size_t at = static_cast<size_t>(i / k * groups + i % k / (k / groups));
      values.push_back(static_cast<double>(weights.scales[at]) *
                       (weights.codes[static_cast<size_t>(i)] -
                        static_cast<double>(weights.zeros[at]) / spec.zero_denominator()));
    }
  }
  int64_t outputs() const { return gated ? weights.n / 2 : weights.n; }
  std::string name(int64_t m) const {
    return fmt::format("{}{} M={} N={} K={}",
                       quant::to_string({.weights = weights.spec, .activation_bits = 16}),
                       gated ? " gated" : "", m, weights.n, weights.k);
  }
};

// The kernel's output [m, outputs + kGap], poisoned before.
constexpr int64_t kGap = 3;
std::vector<float> run_case(const Case& c, const std::vector<float>& x, int64_t m,
                            const DeviceArray<float>* residual) {
  const HostHalves host = make_halves(x, m, c.weights.k);
  DeviceArray<uint16_t> halves = on_device(host.halves);
  DeviceArray<float> scales = on_device(host.scales);
  const HalfTokens tokens{static_cast<int>(m), static_cast<int>(c.weights.k), halves.data(),
                          scales.data()};
  const int64_t stride = c.outputs() + kGap;
  DeviceArray<float> y =
      on_device(std::vector<float>(static_cast<size_t>(m * stride), std::bit_cast<float>(kPoison)));
  LinearOutput output;
  output.y = y.data();
  output.stride = stride;
  if (residual != nullptr) {
    output.residual = residual->data();
    output.residual_stride = c.outputs();
  }
  const Status status = run_half_linear(c.tiles.view, tokens, output, nullptr);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  const cudaError_t finished = cudaDeviceSynchronize();
  REQUIRE_MESSAGE(finished == cudaSuccess, c.name(m), ": ", cudaGetErrorString(finished));
  auto values = y.download();
  REQUIRE_MESSAGE(values.ok(), values.status().to_string());
  return std::move(values).value();
}

struct Expected {
  double value = 0;
  double bound = 0;
};
Expected product(const Case& c, const float* x, int64_t row) {
  double sum = 0, x_norm = 0, w_norm = 0;
  for (int64_t k = 0; k < c.weights.k; ++k) {
    const double w = c.values[static_cast<size_t>(row * c.weights.k + k)];
    const double v = static_cast<double>(x[k]);
    sum += w * v;
    x_norm += v * v;
    w_norm += w * w;
  }
  return {sum, 0x1p-20 * std::sqrt(x_norm * w_norm)};
}
Expected expected_output(const Case& c, const float* x, int64_t column) {
  if (!c.gated) return product(c, x, column);
  const Expected gate = product(c, x, column);
  const Expected up = product(c, x, column + c.weights.n / 2);
  const double silu = gate.value / (1 + std::exp(-gate.value));
  // |silu'| < 1.1; the last terms are the float32 roundings of silu and product.
  const double bound = 1.1 * gate.bound * (std::abs(up.value) + up.bound) +
                       std::abs(silu) * up.bound + 0x1p-20 * std::abs(silu * up.value);
  return {silu * up.value, bound};
}

void check_case(const Case& c, int64_t m, bool with_residual) {
  const int64_t k = c.weights.k;
  const std::vector<float> x = random_tokens(static_cast<uint64_t>(31 * m + k), m * k);
  const std::vector<float> added = random_tokens(5, m * c.outputs());
  const DeviceArray<float> residual = on_device(added);
  const std::vector<float> y = run_case(c, x, m, with_residual ? &residual : nullptr);
  int64_t wrong = 0;
  std::string first;
  for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
    const int64_t token = i / (c.outputs() + kGap);
    const int64_t column = i % (c.outputs() + kGap);
    const float got = y[static_cast<size_t>(i)];
    if (column >= c.outputs()) {
      if (std::bit_cast<uint32_t>(got) != kPoison && wrong++ == 0)
        first = fmt::format("y[{}, {}] beyond the last output was written: {}", token, column, got);
      continue;
    }
    Expected expected = expected_output(c, x.data() + token * k, column);
    if (with_residual) {
      expected.value +=
          static_cast<double>(added[static_cast<size_t>(token * c.outputs() + column)]);
      expected.bound += 0x1p-23 * std::abs(expected.value);
    }
    const double error = std::abs(static_cast<double>(got) - expected.value);
    if (!(error <= expected.bound) && wrong++ == 0) {
      first = fmt::format("y[{}, {}] is {}, expected {} (tolerance {})", token, column, got,
                          expected.value, expected.bound);
    }
  }
  CHECK_MESSAGE(wrong == 0, c.name(m), with_residual ? " residual" : "", ": ", wrong, " of ",
                y.size(), " outputs differ, the first: ", first);
}

constexpr int64_t kTokens[] = {1, 2, 5, 12, 20, 33, 130};

std::vector<quant::WeightSpec> all_widths() {
  std::vector<quant::WeightSpec> specs;
  for (int bits = 1; bits <= 8; ++bits)
    specs.push_back({.bits = bits});
  specs.push_back({.bits = 1, .balanced = true});
  specs.push_back({.bits = 2, .balanced = true});
  return specs;
}

}  // namespace

TEST_CASE("cuda.half multiplies codes of every width like float64") {
  for (const quant::WeightSpec& spec : all_widths()) {
    for (const int64_t k : {64, 384, 1000, 4096}) {
      for (const int64_t n : {40, 200}) {
        if (n == 200 && k == 4096 && spec.bits != 2 && spec.bits != 4) continue;
        const Case c(spec, n, k, false);
        for (const int64_t m : kTokens)
          check_case(c, m, false);
      }
    }
  }
}

TEST_CASE("cuda.half multiplies more rows than processors have warps") {
  for (const quant::WeightSpec& spec :
       {quant::WeightSpec{.bits = 4}, quant::WeightSpec{.bits = 2, .group_size = 64}}) {
    const Case c(spec, 12 * 1024 + 8, 768, false);
    for (const int64_t m : {1, 6, 11, 24})
      check_case(c, m, true);
  }
}

TEST_CASE("cuda.half scales groups of 32, 64 and 128 inputs by themselves") {
  const quant::WeightSpec specs[] = {
      {.bits = 1, .group_size = 128},
      {.bits = 2, .group_size = 32},
      {.bits = 2, .group_size = 64},
      {.bits = 2, .group_size = 128},
      {.bits = 2, .balanced = true, .group_size = 32},
      {.bits = 2, .balanced = true, .group_size = 128},
      {.bits = 3, .group_size = 64},
      {.bits = 4, .group_size = 32},
      {.bits = 8, .group_size = 128},
  };
  for (const quant::WeightSpec& spec : specs) {
    for (const int64_t k : {384, 4096 + 128, 8192}) {
      const Case c(spec, 40, k, false);
      for (const int64_t m : kTokens)
        check_case(c, m, false);
    }
  }
}

TEST_CASE("cuda.half adds a residual and combines gates with ups") {
  for (const quant::WeightSpec& spec :
       {quant::WeightSpec{.bits = 2}, quant::WeightSpec{.bits = 4, .group_size = 128}}) {
    // Small weights, so that silu is tried where it bends.
    for (const bool gated : {false, true}) {
      const Case c(spec, 104, 384, gated);
      for (const int64_t m : kTokens) {
        check_case(c, m, !gated);
        if (gated) check_case(c, m, true);
      }
    }
  }
}

TEST_CASE("cuda.half gives the same bits in every run") {
  const Case c({.bits = 3, .group_size = 64}, 200, 4096, false);
  for (const int64_t m : kTokens) {
    const std::vector<float> x = random_tokens(3, m * 4096);
    const std::vector<float> first = run_case(c, x, m, nullptr);
    for (int run = 0; run < 3; ++run) {
      const std::vector<float> again = run_case(c, x, m, nullptr);
      int64_t differ = 0;
      for (size_t i = 0; i < first.size(); ++i)
        differ += std::bit_cast<uint32_t>(first[i]) != std::bit_cast<uint32_t>(again[i]) ? 1 : 0;
      CHECK_MESSAGE(differ == 0, c.name(m), ": ", differ, " outputs differ between runs");
    }
  }
}

TEST_CASE("cuda.half refuses what it cannot run") {
  LinearProblem problem{.planes = 4, .m = 1, .n = 64, .k = 64};
  CHECK(check_half(problem).ok());
  problem.planes = 9;
  CHECK(check_half(problem).code() == StatusCode::kUnsupported);
  problem.planes = 4;
  problem.activation_bits = 8;
  CHECK(check_half(problem).code() == StatusCode::kUnsupported);
  problem.activation_bits = 16;
  problem.group_size = 48;
  CHECK(check_half(problem).code() == StatusCode::kUnsupported);
}

// Not a test: prints times when ABQ_KERNEL_TIMES=1.
TEST_CASE("cuda.half times of single launches are printed on request") {
  const char* const wanted = std::getenv("ABQ_KERNEL_TIMES");
  if (wanted == nullptr || std::string_view(wanted) != "1") return;
  const auto status = print_half_times();
  CHECK_MESSAGE(status.ok(), status.to_string());
}

}  // namespace abq::runtime::cuda
