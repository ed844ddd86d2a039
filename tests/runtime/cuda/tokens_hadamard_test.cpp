// The Hadamard transform on the device against compute::Device's, bit by bit.
#include <algorithm>

#include "compute/device.h"
#include "tokens_test_support.h"

namespace abq::runtime::cuda {
namespace {

struct DeviceMatrix {
  DeviceArray<float> signs;
  HadamardMatrix matrix;

  explicit DeviceMatrix(int64_t size) {
    const compute::HadamardFactors& factors = compute::hadamard_factors(size);
    matrix.order = static_cast<int>(factors.order);
    matrix.length = static_cast<int>(factors.length);
    matrix.scale = factors.scale();
    if (factors.order == 1) return;
    signs = on_device(hadamard_signs(factors));
    matrix.signs = signs.data();
  }
};

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
