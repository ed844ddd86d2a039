// Codes of tokens on the device, in all their forms, against quant::quantize_tokens.
#include <algorithm>
#include <limits>

#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/tokens/token_launchers.h"
#include "tokens_buffers.h"

namespace abq::runtime::cuda {
namespace {

std::string named(const char* kernel, int m, int k, int bits) {
  return std::string(kernel) + " m=" + std::to_string(m) + " k=" + std::to_string(k) +
         " bits=" + std::to_string(bits);
}

struct Shape {
  int m;
  int k;
};

std::vector<Shape> shapes() {
  std::vector<Shape> result;
  for (const int k : {1, 3, 64, 384, 1000, 4096, 11008}) {
    for (const int m : {1, 2, 7, 33})
      result.push_back({m, k});
  }
  for (const int k : {3, 64, 1000, 4096})
    result.push_back({300, k});
  for (const int k : {256, 384, 4096, 11008})  // many tokens: two tiles a warp
    result.push_back({520, k});
  result.push_back({1, 28672});  // two tiles a warp, eight blocks
  result.push_back({20, 28672});
  result.push_back({1, 140000});  // longer than registers hold
  return result;
}

void check_quantize(const HostRows& x, int bits, unsigned forms, int shift) {
  const std::string what = named("quantize", x.m, x.columns, bits);
  const Stream stream;
  DeviceRows device(x, shift);
  TokenBuffers tokens(x.m, x.columns, bits, forms);
  require_ok(quantize(device.values(), tokens.view(), stream));
  stream.wait();
  tokens.check(quant::quantize_tokens(x.view(), bits), what);
}

TEST_CASE("tokens: quantize gives the codes of quantize_tokens in every form and shape") {
  uint64_t seed = 100;
  for (const Shape& shape : shapes())
    check_quantize(random_rows(shape.m, shape.k, shape.k, ++seed), 8, kAll, 0);
}

TEST_CASE("tokens: quantize works at every width") {
  uint64_t seed = 200;
  for (int bits = 1; bits <= 8; ++bits) {
    check_quantize(random_rows(9, 384, 384, ++seed), bits, kAll, 0);
    check_quantize(random_rows(2, 1000, 1000, ++seed), bits, kAll, 0);
    check_quantize(random_rows(1, 4096, 4096, ++seed), bits, kAll, 0);
  }
}

TEST_CASE("tokens: quantize takes any stride and alignment, and makes the forms it is asked for") {
  check_quantize(random_rows(7, 1000, 1024, 300), 8, kAll, 0);
  check_quantize(random_rows(7, 1000, 1003, 301), 8, kAll, 0);
  check_quantize(random_rows(7, 1000, 1000, 302), 8, kAll, 1);
  check_quantize(random_rows(3, 4096, 4100, 303), 8, kAll, 2);
  for (unsigned forms = 0; forms < kAll; ++forms) {
    check_quantize(random_rows(2, 4096, 4096, 310 + forms), 8, forms, 0);
    check_quantize(random_rows(2, 383, 383, 330 + forms), 4, forms, 0);
  }
}

// Rows of one special kind each.
HostRows special_rows(int columns) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  HostRows x = random_rows(12, columns, columns, 400);
  std::fill_n(x.row(0), columns, 0.0f);
  std::fill_n(x.row(1), columns, -0.0f);
  std::fill_n(x.row(2), columns, 2.75f);
  std::fill_n(x.row(3), columns, -2.75f);
  std::fill_n(x.row(4), columns, kNan);
  x.at(5, columns / 2) = kNan;
  x.at(6, columns / 3) = kInfinity;
  x.at(7, columns - 1) = -kInfinity;
  x.at(8, 0) = 1e30f;
  x.at(9, columns / 2) = -3.3e38f;
  x.at(9, columns / 3) = 3.3e38f;
  std::fill_n(x.row(10), columns, 1e-42f);
  x.at(11, columns / 2) = 3.3e38f;
  return x;
}

TEST_CASE("tokens: quantize of zeros, constants, NaN, infinity and outliers") {
  for (const int columns : {63, 384, 4096, 11008}) {
    for (const int bits : {1, 2, 5, 8}) {
      const HostRows x = special_rows(columns);
      check_quantize(x, bits, kAll, 0);
      for (int r = 0; r < x.m; ++r) {  // each alone, by the plan of few tokens
        HostRows one(1, columns, columns);
        std::copy_n(x.row(r), columns, one.row(0));
        check_quantize(one, bits, kAll, 0);
      }
    }
  }
}

// Norm with quantization: the codes are those of the values it writes, which rms_norm writes too.
void check_norm_quantize(int m, int k, int64_t stride, int bits, uint64_t seed) {
  const std::string what = named("rms_norm_quantize", m, k, bits);
  const Stream stream;
  DeviceRows x(random_rows(m, k, stride, seed));
  const DeviceArray<float> weight = on_device(random_rows(1, k, k, seed + 1).values);
  DeviceRows alone(HostRows(m, k, stride));
  DeviceRows written(HostRows(m, k, stride));
  TokenBuffers tokens(m, k, bits);
  TokenBuffers unseen(m, k, bits);
  require_ok(rms_norm(x.values(), weight.data(), 1e-6f, alone.rows(), stream));
  require_ok(
      rms_norm_quantize(x.values(), weight.data(), 1e-6f, written.rows(), tokens.view(), stream));
  require_ok(rms_norm_quantize(x.values(), weight.data(), 1e-6f, Rows{}, unseen.view(), stream));
  stream.wait();
  const HostRows y = written.download();
  CHECK_MESSAGE(same_bits(y, alone.download()), what << ": not the values of rms_norm");
  tokens.check(quant::quantize_tokens(y.view(), bits), what);
  CHECK_MESSAGE(tokens.bytes() == unseen.bytes(), what << ": differs without y");
}

TEST_CASE("tokens: rms_norm_quantize gives the codes of the normalised values") {
  uint64_t seed = 500;
  for (const Shape& shape : shapes())
    check_norm_quantize(shape.m, shape.k, shape.k, 8, seed += 2);
  for (int bits = 1; bits <= 7; ++bits)
    check_norm_quantize(3, 4096, 4096, bits, seed += 2);
  check_norm_quantize(3, 4096, 4104, 8, seed += 2);
  check_norm_quantize(3, 1000, 1001, 8, seed += 2);
}

TEST_CASE("tokens: rms_norm_quantize of NaN, infinity and zeros is defined") {
  for (const int columns : {384, 4096}) {
    for (const float eps : {1e-6f, 0.0f}) {
      const HostRows x = special_rows(columns);
      const Stream stream;
      DeviceRows device(x);
      const DeviceArray<float> weight = on_device(random_rows(1, columns, columns, 601).values);
      DeviceRows written(HostRows(x.m, columns, columns));
      TokenBuffers tokens(x.m, columns, 8);
      require_ok(rms_norm_quantize(device.values(), weight.data(), eps, written.rows(),
                                   tokens.view(), stream));
      stream.wait();
      tokens.check(quant::quantize_tokens(written.download().view(), 8),
                   named("rms_norm_quantize of special rows", x.m, columns, 8));
    }
  }
}

TEST_CASE("tokens: silu_mul_quantize gives the codes of the products of silu_mul") {
  uint64_t seed = 700;
  for (const Shape& shape : shapes()) {
    const std::string what = named("silu_mul_quantize", shape.m, shape.k, 8);
    const Stream stream;
    DeviceRows gate(random_rows(shape.m, shape.k, shape.k, ++seed));
    DeviceRows up(random_rows(shape.m, shape.k, shape.k, ++seed));
    DeviceRows product(HostRows(shape.m, shape.k, shape.k));
    TokenBuffers tokens(shape.m, shape.k, 8);
    require_ok(silu_mul(gate.values(), up.values(), product.rows(), stream));
    require_ok(silu_mul_quantize(gate.values(), up.values(), tokens.view(), stream));
    stream.wait();
    tokens.check(quant::quantize_tokens(product.download().view(), 8), what);
  }
}

TEST_CASE("tokens: every plan gives the same bits, and so does every run") {
  constexpr int kColumns = 11008;
  const HostRows x = random_rows(4, kColumns, kColumns, 800);
  const Stream stream;
  DeviceRows device(x);
  const DeviceArray<float> weight = on_device(random_rows(1, kColumns, kColumns, 801).values);
  std::vector<uint8_t> first;
  for (const int blocks : {1, 2, 4, 8, 8}) {
    if (blocks > 1 && !launches_overlap()) continue;  // no clusters
    for (const int held : {1, 2}) {
      const int warps = divide_up(tiles_of(kColumns, kTileDepth), blocks * held);
      if (warps > kMaxRowWarps) continue;
      TokenBuffers tokens(x.m, kColumns, 8);
      require_ok(launch_rms_norm_quantize({device.values().data, kColumns}, weight.data(), 1e-5f,
                                          {nullptr, 0}, tokens.view(), true,
                                          TokenPlan{held, blocks, warps}, stream));
      stream.wait();
      const std::vector<uint8_t> bytes = tokens.bytes();
      if (first.empty()) first = bytes;
      CHECK_MESSAGE(bytes == first, "plan of " << blocks << " blocks, " << held << " held");
    }
  }
}

TEST_CASE("tokens: split_halves gives the halves of views.h in their order") {
  for (const Shape& shape :
       {Shape{1, 1}, {2, 3}, {1, 64}, {7, 384}, {33, 1000}, {1, 4096}, {2, 11008}, {20, 4096}}) {
    const HostRows x = random_rows(shape.m, shape.k, shape.k, 900);
    const Stream stream;
    DeviceRows device(x);
    const int64_t padded = int64_t{tiles_of(shape.k, kTileDepth)} * kTileDepth;
    DeviceArray<uint16_t> halves = poisoned<uint16_t>(2 * padded * shape.m);
    DeviceArray<float> scales = poisoned<float>(shape.m);
    require_ok(
        split_halves(device.values(), {shape.m, shape.k, halves.data(), scales.data()}, stream));
    stream.wait();
    const std::vector<uint16_t> got = require_value(halves.download());
    const std::vector<float> scale = require_value(scales.download());
    for (int r = 0; r < shape.m; ++r) {
      int exponent = 0;
      REQUIRE(std::frexp(scale[static_cast<size_t>(r)], &exponent) == 0.5f);
      for (int64_t c = 0; c < padded; ++c) {
        const float v =
            c < shape.k ? x.at(r, static_cast<int>(c)) / scale[static_cast<size_t>(r)] : 0.0f;
        const uint16_t high = float_to_f16(v);
        const uint16_t low = float_to_f16(v - f16_to_float(high));
        constexpr int kPlaces[4] = {0, 2, 1, 3};
        const int64_t place = c - c % 4 + kPlaces[c % 4];
        const size_t index = static_cast<size_t>(2 * padded * r + place);
        if (got[index] != high || got[index + static_cast<size_t>(padded)] != low) {
          FAIL(named("split_halves", shape.m, shape.k, 16)
               << ": token " << r << " column " << c << " value " << v << " expected " << high
               << " " << low << " got " << got[index] << " "
               << got[index + static_cast<size_t>(padded)]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace abq::runtime::cuda
