#include <doctest/doctest.h>

#include "linear_test_util.h"

namespace abq::runtime {
namespace {

Status prepare_status(const StoredWeights& stored, int activation_bits = 8) {
  return QuantizedLinear::prepare(stored, activation_bits).status();
}

void check_refused(const Status& status, StatusCode code, std::string_view words) {
  CAPTURE(status.to_string());
  CHECK(status.code() == code);
  CHECK(status.message().find(words) != std::string::npos);
}

}  // namespace

TEST_CASE("stored weights whose parts have the wrong size are refused") {
  const TestWeights w = random_weights(1, {4, false, 32, false}, 6, 64);
  StoredWeights stored = w.stored();
  stored.packed = stored.packed.first(stored.packed.size() - 1);
  check_refused(prepare_status(stored), StatusCode::kCorrupt, "planes<4>[6, 64] takes 384 bytes");
  stored = w.stored();
  stored.scales = stored.scales.first(11);
  check_refused(prepare_status(stored), StatusCode::kCorrupt, "expected 12 scales");
  stored = w.stored();
  stored.zeros = stored.zeros.first(3);
  check_refused(prepare_status(stored), StatusCode::kCorrupt, "expected 12 scales");
}

TEST_CASE("a layout that is not the scheme's is refused") {
  const TestWeights w = random_weights(1, {4, false, 0, false}, 6, 64);
  StoredWeights stored = w.stored();
  stored.spec.bits = 3;
  check_refused(prepare_status(stored), StatusCode::kInvalidArgument, "planes<3>");
  stored = w.stored();
  stored.layout.n = 0;
  check_refused(prepare_status(stored), StatusCode::kInvalidArgument, "no elements");
  stored = w.stored();
  stored.spec.bits = 16;
  check_refused(prepare_status(stored), StatusCode::kInvalidArgument, "not quantized");
  stored = w.stored();
  stored.spec.group_size = 128;
  check_refused(prepare_status(stored), StatusCode::kInvalidArgument, "128 does not divide K=64");
}

TEST_CASE("scales and zero points out of range are refused") {
  TestWeights w = random_weights(1, {4, false, 0, false}, 6, 64);
  for (const float bad : {0.0f, -1.0f, INFINITY, NAN}) {
    w.weights.scales[3] = bad;
    check_refused(prepare_status(w.stored()), StatusCode::kCorrupt, "scale 3 is");
  }
  w.weights.scales[3] = 1.0f;
  w.weights.zeros[5] = 16;
  check_refused(prepare_status(w.stored()), StatusCode::kCorrupt, "zero point 5 is 16");
}

TEST_CASE("codes and padding out of range are refused by every family, with the row") {
  TestWeights balanced = random_weights(1, {2, true, 0, true}, 6, 64);
  const size_t row_bytes = static_cast<size_t>(balanced.stored().layout.row_bytes());
  balanced.packed[4 * row_bytes] = std::byte{0xff};  // a word of 127
  for (const int activation_bits : {8, 16}) {
    check_refused(prepare_status(balanced.stored(), activation_bits), StatusCode::kCorrupt,
                  "row 4");
  }
  check_refused(
      QuantizedLinear::prepare(balanced.stored(), 8, cpu_isa(), quant::GemmFamily::kBits).status(),
      StatusCode::kCorrupt, "row 4");
  TestWeights planes = random_weights(1, {4, false, 0, false}, 6, 70);
  planes.packed[static_cast<size_t>(3 * planes.stored().layout.row_bytes()) + 15] = std::byte{1};
  check_refused(prepare_status(planes.stored()), StatusCode::kCorrupt, "row 3");
}

TEST_CASE("activation widths that no kernel has are refused") {
  const TestWeights w = random_weights(1, {4, false, 0, false}, 6, 64);
  for (const int bits : {0, 9, 12, 32})
    check_refused(prepare_status(w.stored(), bits), StatusCode::kUnsupported, "no kernel");
}

TEST_CASE("a family that cannot run the layer is refused") {
  const TestWeights w = random_weights(1, {4, false, 32, false}, 6, 64);
  check_refused(
      QuantizedLinear::prepare(w.stored(), 8, cpu_isa(), quant::GemmFamily::kBits).status(),
      StatusCode::kUnsupported, "groups of 32");
  check_refused(
      QuantizedLinear::prepare(w.stored(), 8, cpu_isa(), quant::GemmFamily::kWeightOnly).status(),
      StatusCode::kUnsupported, "activations of 8 bits");
}

TEST_CASE("repacked weights take the bits of their codes") {
  const TestWeights w = random_weights(1, {3, false, 0, false}, 64, 1024);
  auto linear = QuantizedLinear::prepare(w.stored(), 8);
  REQUIRE(linear.ok());
  CHECK(linear.value()->n() == 64);
  CHECK(linear.value()->k() == 1024);
  CHECK(linear.value()->resident_bytes() >= 64 * 1024 * 3 / 8);
  CHECK(linear.value()->resident_bytes() <= 64 * (1024 * 3 / 8 + 32));
}

}  // namespace abq::runtime
