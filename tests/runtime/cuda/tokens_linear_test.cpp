// Float linears on the device against float64.
#include <algorithm>
#include <optional>

#include "runtime/cuda/tokens/token_launchers.h"
#include "tokens_test_support.h"

namespace abq::runtime::cuda {
namespace {

using compute::FloatMatrix;
using compute::FloatType;

const char* type_name(FloatType type) {
  return type == FloatType::kF32 ? "f32" : type == FloatType::kF16 ? "f16" : "bf16";
}

// A weight matrix on the device and what it holds as float32 on the host.
struct Weights {
  FloatType type;
  HostRows values;
  DeviceArray<uint8_t> memory;

  Weights(FloatType t, int n, int k, uint64_t seed) : type(t), values(random_rows(n, k, k, seed)) {
    std::vector<uint8_t> bytes(values.values.size() *
                               static_cast<size_t>(compute::float_type_bytes(type)));
    for (size_t i = 0; i < values.values.size(); ++i) {
      float& v = values.values[i];
      if (type == FloatType::kF32) {
        std::memcpy(&bytes[4 * i], &v, 4);
        continue;
      }
      const uint16_t half = type == FloatType::kF16 ? float_to_f16(v) : float_to_bf16(v);
      std::memcpy(&bytes[2 * i], &half, 2);
      v = type == FloatType::kF16 ? f16_to_float(half) : bf16_to_float(half);
    }
    memory = on_device(bytes);
  }
  FloatMatrix matrix() const { return {type, memory.data(), values.m, values.columns}; }
};

struct Case {
  FloatType type;
  int m;
  int n;
  int k;
  int64_t x_stride;
  enum { kNone, kOther, kInPlace } residual;
};

std::string named(const Case& c) {
  return std::string("float linear ") + type_name(c.type) + " m=" + std::to_string(c.m) +
         " n=" + std::to_string(c.n) + " k=" + std::to_string(c.k) +
         " x stride=" + std::to_string(c.x_stride) + " residual=" + std::to_string(c.residual);
}

struct Sums {
  std::vector<double> values;
  std::vector<double> magnitudes;  // sums of |x w|
};

Sums reference(const HostRows& x, const HostRows& w) {
  Sums sums;
  for (int r = 0; r < x.m; ++r) {
    for (int n = 0; n < w.m; ++n) {
      double sum = 0;
      double magnitude = 0;
      for (int k = 0; k < x.columns; ++k) {
        const double product = static_cast<double>(x.at(r, k)) * w.at(n, k);
        sum += product;
        magnitude += std::fabs(product);
      }
      sums.values.push_back(sum);
      sums.magnitudes.push_back(magnitude);
    }
  }
  return sums;
}

// False where cuBLAS is needed and missing.
bool run_case(const Case& c, FloatLinear& linear, double unit, uint64_t seed,
              HostRows* result = nullptr) {
  const HostRows x = random_rows(c.m, c.k, c.x_stride, seed);
  const Weights weights(c.type, c.n, c.k, seed + 1);
  const int64_t stride = c.n + 3;
  const HostRows added = random_rows(c.m, c.n, stride, seed + 2);
  DeviceRows device_x(x);
  DeviceRows other(added);
  DeviceRows y(c.residual == Case::kInPlace ? added : HostRows(c.m, c.n, stride));
  DeviceArray<uint8_t> scratch = poisoned<uint8_t>(FloatLinear::workspace_bytes(c.m, c.k));
  const float* const residual = c.residual == Case::kNone    ? nullptr
                                : c.residual == Case::kOther ? other.values().data
                                                             : y.rows().data;
  const Stream stream;
  const Status status = linear.run(device_x.values(), weights.matrix(), residual, stride, y.rows(),
                                   {scratch.data(), scratch.bytes()}, stream);
  if (status.code() == StatusCode::kUnsupported) {
    MESSAGE("skipped: " << status.to_string());
    return false;
  }
  require_ok(status);
  stream.wait();
  const Sums sums = reference(x, weights.values);
  const auto index = [&](int r, int n) { return static_cast<size_t>(r * c.n + n); };
  const auto added_at = [&](int r, int n) {
    return c.residual == Case::kNone ? 0.0 : static_cast<double>(added.at(r, n));
  };
  const HostRows got = y.download();
  check_close(
      got, named(c), [&](int r, int n) { return sums.values[index(r, n)] + added_at(r, n); },
      [&](int r, int n) {
        return unit * (sums.magnitudes[index(r, n)] + std::fabs(added_at(r, n))) + 1e-35;
      });
  if (result != nullptr) *result = got;
  return true;
}

// Rounding errors of a float32 sum of K products grow like the root of K and stay below 2^-20 of
// the sum of magnitudes here; a float16 product alone would be off by 2^-12 / sqrt(K) of it: more.
constexpr double kFloatUnit = 0x1p-20;

TEST_CASE("tokens: float linear of up to 8 tokens has float32's quality") {
  FloatLinear linear;
  uint64_t seed = 10;
  for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
    for (const int m : {1, 2, 3, 5, 8}) {
      for (const auto& [n, k] : {std::pair{64, 64}, {131, 384}, {33, 1000}, {257, 4096}}) {
        run_case({type, m, n, k, k, Case::kNone}, linear, kFloatUnit, seed += 3);
      }
      run_case({type, m, 37, 11008, 11008, Case::kOther}, linear, kFloatUnit, seed += 3);
      run_case({type, m, 1, 264, 267, Case::kInPlace}, linear, kFloatUnit, seed += 3);
      run_case({type, m, 5000, 128, 132, Case::kInPlace}, linear, kFloatUnit, seed += 3);
      run_case({type, m, 70, 1001, 1001, Case::kOther}, linear, kFloatUnit, seed += 3);
      run_case({type, m, 10, 3, 5, Case::kNone}, linear, kFloatUnit, seed += 3);
      run_case({type, m, 10, 1, 1, Case::kNone}, linear, kFloatUnit, seed += 3);
    }
  }
}

TEST_CASE("tokens: float linear of many tokens has float32's quality") {
  FloatLinear linear;
  uint64_t seed = 2000;
  for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
    for (const auto& [m, n, k] : {std::tuple{9, 64, 64},
                                  {33, 131, 384},
                                  {20, 2100, 256},
                                  {12, 5000, 64},
                                  {33, 65, 1000},
                                  {10, 33, 4096},
                                  {9, 20, 1001}}) {
      for (const auto residual : {Case::kNone, Case::kOther, Case::kInPlace}) {
        if (!run_case({type, m, n, k, k + 1, residual}, linear, kFloatUnit, seed += 3)) return;
      }
    }
  }
}

TEST_CASE("tokens: float linear of a token is the same alone and among up to 8") {
  FloatLinear linear;
  constexpr int kRows = 300;
  for (const int k : {384, 4096, 11008}) {
    for (const FloatType type : {FloatType::kF32, FloatType::kF16}) {
      const HostRows x = random_rows(8, k, k, 3000);
      const Weights weights(type, kRows, k, 3001);
      DeviceRows device_x(x);
      const Stream stream;
      const auto run = [&](int m) {
        DeviceRows y(HostRows(m, kRows, kRows));
        require_ok(linear.run(ConstRows(device_x.values().data, k, m, k), weights.matrix(), nullptr,
                              0, y.rows(), {}, stream));
        stream.wait();
        return y.download();
      };
      const HostRows all = run(8);
      for (const int m : {1, 2, 4, 8}) {
        const HostRows some = run(m);
        CHECK_MESSAGE(std::equal(some.values.begin(), some.values.end(), all.values.begin()),
                      "m=" << m << " k=" << k << " " << type_name(type));
      }
    }
  }
}

TEST_CASE("tokens: the fast float linear is one float16 product") {
  FloatLinear linear;
  linear.set_fast(true);
  uint64_t seed = 4000;
  // x is rounded to 11 or 8 bits.
  for (const auto& [type, unit] : {std::pair{FloatType::kF16, 0x1p-11},
                                   {FloatType::kBF16, 0x1p-8},
                                   {FloatType::kF32, 0x1p-20}}) {
    for (const int m : {1, 8, 40}) {
      for (const auto residual : {Case::kNone, Case::kOther, Case::kInPlace}) {
        if (!run_case({type, m, 130, 520, 520, residual}, linear, unit, seed += 3)) return;
      }
    }
  }
}

TEST_CASE("tokens: float linear says when its workspace is too small") {
  FloatLinear linear;
  const Weights weights(FloatType::kF16, 64, 64, 5000);
  DeviceRows x(random_rows(9, 64, 64, 5001));
  DeviceRows y(HostRows(9, 64, 64));
  const Stream stream;
  const Status status =
      linear.run(x.values(), weights.matrix(), nullptr, 0, y.rows(), {nullptr, 16}, stream);
  CHECK_FALSE(status.ok());
}

}  // namespace
}  // namespace abq::runtime::cuda
