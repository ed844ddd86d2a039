// The Hadamard transform on the device against compute::Device's, bit by bit.
#include <algorithm>

#include "compute/device.h"
#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/tokens/token_launchers.h"
#include "tokens_buffers.h"
#include "tokens_hadamard_matrix.h"

namespace abq::runtime::cuda {
namespace {

HostRows expected_rows(const HostRows& x, int64_t size) {
  HostRows y(x.m, x.columns, x.stride);
  for (int r = 0; r < x.m; ++r) {
    std::copy_n(x.row(r), x.columns, y.row(r));
    compute::cpu_device().hadamard({y.row(r), 1, x.columns}, size, false);
  }
  return y;
}

// `shift` floats make bases unaligned.
void check_hadamard(int64_t size, const HostRows& x, bool in_place, int shift = 0) {
  const std::string what = "hadamard " + std::to_string(size) + " of " + std::to_string(x.m) +
                           " x " + std::to_string(x.columns) + " stride " +
                           std::to_string(x.stride) + (in_place ? " in place" : "");
  const Stream stream;
  const DeviceMatrix h(size);
  DeviceRows device(x, shift);
  DeviceRows other(HostRows(x.m, x.columns, x.stride), shift);
  const Rows to = in_place ? device.rows() : other.rows();
  require_ok(hadamard(device.values(), h.matrix, to, stream));
  stream.wait();
  CHECK_MESSAGE(same_bits((in_place ? device : other).download(), expected_rows(x, size)), what);
  if (!in_place) CHECK_MESSAGE(same_bits(device.download(), x), what << ": input");
}

TEST_CASE("tokens: hadamard has the bits of the CPU at widths of heads and models") {
  uint64_t seed = 700;
  for (const int size : {64, 128, 384, 1024, 4096, 5120, 11008, 13824, 14336, 18944, 28672}) {
    for (const int m : {1, 5, 300})
      check_hadamard(size, random_rows(m, size, size, ++seed), false);
  }
}

TEST_CASE("tokens: hadamard has the bits of the CPU in segments of a row") {
  uint64_t seed = 800;
  for (const int size : {2, 4, 8, 12, 16, 28, 32, 64, 96, 128, 384, 1376}) {
    for (const int segments : {1, 2, 9, 40})
      check_hadamard(size, random_rows(5, size * segments, size * segments, ++seed), false);
    check_hadamard(size, random_rows(300, size * 8, size * 8, ++seed), false);
  }
}

TEST_CASE("tokens: hadamard takes any stride and alignment, and works in place") {
  uint64_t seed = 900;
  for (const int size : {2, 64, 96, 384, 4096, 11008}) {
    for (const int m : {1, 7, 300}) {
      for (const int gap : {0, 4, 3}) {
        const HostRows x = random_rows(m, size, size + gap, ++seed);
        check_hadamard(size, x, false);
        check_hadamard(size, x, true);
        check_hadamard(size, x, false, 1);
      }
    }
  }
}

TEST_CASE("tokens: hadamard behind another kernel sees what that wrote") {
  const Stream stream;
  const DeviceMatrix h(11008);
  const HostRows x = random_rows(3, 11008, 11008, 950);
  DeviceRows a(x);
  DeviceRows b(HostRows(3, 11008, 11008));
  DeviceRows c(HostRows(3, 11008, 11008));
  HostRows sum(3, 11008, 11008);
  for (size_t i = 0; i < sum.values.size(); ++i)
    sum.values[i] = x.values[i] + x.values[i];
  for (int repeat = 0; repeat < 5; ++repeat) {
    require_ok(add(a.values(), a.values(), b.rows(), stream));
    require_ok(hadamard(b.values(), h.matrix, c.rows(), stream));
  }
  stream.wait();
  CHECK(same_bits(c.download(), expected_rows(sum, 11008)));
}

std::string quantize_name(int64_t size, const HostRows& x, int bits) {
  return "hadamard_quantize " + std::to_string(size) + " of " + std::to_string(x.m) + " x " +
         std::to_string(x.columns) + " stride " + std::to_string(x.stride) + " bits " +
         std::to_string(bits);
}

// Codes are those of the CPU's transform, and so are the values that are kept (finite ones: the
// bits of a NaN are not defined).
void check_quantize(int64_t size, const HostRows& x, int bits, unsigned forms = kAll,
                    int shift = 0) {
  const std::string what = quantize_name(size, x, bits);
  const Stream stream;
  const DeviceMatrix h(size);
  const HostRows expected = expected_rows(x, size);
  DeviceRows device(x, shift);
  for (const bool keeps : {false, true}) {
    DeviceRows y(HostRows(x.m, x.columns, x.stride), shift);
    TokenBuffers tokens(x.m, x.columns, bits, forms);
    require_ok(
        hadamard_quantize(device.values(), h.matrix, y.rows(), keeps, tokens.view(), stream));
    stream.wait();
    tokens.check(quant::quantize_tokens(expected.view(), bits), what);
    const bool finite = std::all_of(expected.values.begin(), expected.values.end(),
                                    [](float v) { return std::isfinite(v); });
    if (keeps && finite) CHECK_MESSAGE(same_bits(y.download(), expected), what << ": kept values");
  }
}

TEST_CASE("tokens: hadamard_quantize gives the codes of the CPU at widths of heads and models") {
  uint64_t seed = 1000;
  for (const int size : {64, 384, 1024, 4096, 11008, 13824, 14336}) {
    for (const int m : {1, 3, 8, 33, 257}) {
      for (const int bits : {1, 4, 8})
        check_quantize(size, random_rows(m, size, size, ++seed), bits);
    }
  }
  for (const int size : {18944, 28672, 32768, 49152})
    check_quantize(size, random_rows(2, size, size, ++seed), 4);
}

TEST_CASE("tokens: hadamard_quantize works at every width, in segments and any alignment") {
  uint64_t seed = 1100;
  for (int bits = 1; bits <= 8; ++bits)
    check_quantize(384, random_rows(5, 1152, 1152, ++seed), bits);
  for (const int size : {2, 4, 12, 32, 96, 1376}) {
    for (const int segments : {1, 3, 8, 31})
      check_quantize(size, random_rows(3, size * segments, size * segments, ++seed), 8);
  }
  for (const int size : {2, 96, 1024, 11008}) {
    for (const int gap : {4, 3})
      check_quantize(size, random_rows(3, size, size + gap, ++seed), 8);
    check_quantize(size, random_rows(3, size, size, ++seed), 8, kAll, 1);
  }
  for (unsigned forms = 0; forms < kAll; ++forms)
    check_quantize(1376, random_rows(2, 2752, 2752, ++seed), 8, forms);
}

TEST_CASE("tokens: hadamard_quantize of zeros, NaN and infinity is what quantize makes of them") {
  for (const int size : {64, 384, 4096, 11008}) {
    HostRows x = random_rows(6, size, size, 1200);
    std::fill_n(x.row(0), size, 0.0f);
    std::fill_n(x.row(1), size, -0.0f);
    x.at(2, size / 2) = std::numeric_limits<float>::quiet_NaN();
    x.at(3, size / 3) = std::numeric_limits<float>::infinity();
    std::fill_n(x.row(4), size, 3e38f);
    std::fill_n(x.row(5), size, 1e-42f);
    for (const int bits : {1, 8})
      check_quantize(size, x, bits);
  }
}

TEST_CASE("tokens: every plan of hadamard_quantize gives the same bits, and so does every run") {
  if (!launches_overlap()) return;  // no clusters
  const Stream stream;
  for (const int size : {384, 4096, 11008, 14336}) {
    const DeviceMatrix h(size);
    const HostRows x = random_rows(40, size, size, 1300);
    const quant::QuantizedTokens expected =
        quant::quantize_tokens(expected_rows(x, size).view(), 8);
    DeviceRows device(x);
    for (const int blocks : {1, 2, 4, 8, 8}) {
      for (const int mixed : {4, 8}) {
        const HadamardRowPlan plan = plan_hadamard_rows(h.matrix, x.m, size, blocks, mixed);
        if (plan.blocks == 0) continue;  // too much for a block
        TokenBuffers tokens(x.m, size, 8);
        require_ok(launch_hadamard_quantize({device.values().data, size}, h.matrix, {nullptr, 0},
                                            tokens.view(), true, plan, stream));
        stream.wait();
        tokens.check(expected, quantize_name(size, x, 8) + " by " + std::to_string(blocks) +
                                   " blocks, " + std::to_string(mixed) + " columns a thread");
      }
    }
  }
}

TEST_CASE("tokens: hadamard_quantize behind another kernel sees what that wrote") {
  const Stream stream;
  const HostRows x = random_rows(3, 11008, 11008, 1400);
  HostRows sum(3, 11008, 11008);
  for (size_t i = 0; i < sum.values.size(); ++i)
    sum.values[i] = x.values[i] + x.values[i];
  DeviceRows a(x);
  DeviceRows b(HostRows(3, 11008, 11008));
  DeviceRows scratch(HostRows(3, 11008, 11008));
  for (const int size : {128, 1376, 11008}) {
    const DeviceMatrix h(size);
    TokenBuffers tokens(3, 11008, 8);
    for (int repeat = 0; repeat < 5; ++repeat) {
      require_ok(add(a.values(), a.values(), b.rows(), stream));
      require_ok(
          hadamard_quantize(b.values(), h.matrix, scratch.rows(), false, tokens.view(), stream));
    }
    stream.wait();
    tokens.check(quant::quantize_tokens(expected_rows(sum, size).view(), 8),
                 quantize_name(size, x, 8));
  }
}

TEST_CASE("tokens: hadamard refuses rows that its matrix does not divide and matrices too long") {
  const Stream stream;
  HadamardMatrix matrix;
  matrix.length = 64;
  DeviceRows x(HostRows(1, 96, 96));
  CHECK_FALSE(hadamard(x.values(), matrix, x.rows(), stream).ok());
  matrix.length = 65536;
  DeviceRows y(HostRows(1, 65536, 65536));
  CHECK(hadamard(y.values(), matrix, y.rows(), stream).code() == StatusCode::kUnsupported);
}

}  // namespace
}  // namespace abq::runtime::cuda
