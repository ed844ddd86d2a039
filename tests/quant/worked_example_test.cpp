// The worked example of docs/quantization.md, number by number.
#include <doctest/doctest.h>

#include <bit>

#include "quant/affine.h"
#include "quant/packed_layout.h"
#include "quant/reference_gemm.h"
#include "tests/quant/quant_test_util.h"

using namespace abq;
using namespace abq::quant;

namespace {

const std::vector<float> kWeights = {0.5f, -0.25f, 1.0f, -0.5f};
const std::vector<float> kToken = {1.25f, -0.5f, 0.5f, 0.3f};

std::vector<unsigned> packed_bytes(const QuantizedWeights& w) {
  const PackedLayout layout = PackedLayout::for_weights(w.spec, w.n, w.k);
  std::vector<std::byte> packed(static_cast<size_t>(layout.row_bytes()));
  pack_row(layout, w.codes, packed);
  std::vector<unsigned> bytes;
  for (const std::byte byte : packed)
    bytes.push_back(std::to_integer<unsigned>(byte));
  return bytes;
}

std::vector<float> dequantized(const QuantizedWeights& w) {
  std::vector<float> values(w.codes.size());
  dequantize_weights(w, view(values, w.n));
  return values;
}

}  // namespace

TEST_CASE("worked example: W2 asymmetric weights") {
  const QuantizedWeights w = *quantize_weights(view(kWeights, 1), {2});
  CHECK(w.scales[0] == 0.5f);
  CHECK(w.zeros[0] == 1);
  CHECK(w.codes == std::vector<uint8_t>{2, 1, 3, 0});
  CHECK(dequantized(w) == std::vector<float>{0.5f, 0.0f, 1.0f, -0.5f});
  const std::vector<unsigned> bytes = packed_bytes(w);
  CHECK(bytes.size() == 32);
  CHECK(bytes[0] == 0x06);
  CHECK(bytes[16] == 0x05);
}

TEST_CASE("worked example: A3 token") {
  const QuantizedTokens x = quantize_tokens(view(kToken, 1), 3);
  CHECK(x.scales[0] == 0.25f);
  CHECK(x.zeros[0] == 2);
  CHECK(x.codes == std::vector<uint8_t>{7, 0, 4, 3});
  std::vector<float> fake = kToken;
  fake_quantize_tokens(view(fake, 1), 3);
  CHECK(fake == std::vector<float>{1.25f, -0.5f, 0.5f, 0.25f});
}

TEST_CASE("worked example: the product from planes, then the identity") {
  const unsigned w_planes[] = {0b0110, 0b0101};
  const unsigned x_planes[] = {0b1001, 0b1001, 0b0101};
  int sum = 0;
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 3; ++j)
      sum += std::popcount(w_planes[i] & x_planes[j]) << (i + j);
  CHECK(sum == 26);
  CHECK(26 - 2 * 6 - 1 * 14 + 4 * 2 * 1 == 8);

  const QuantizedTokens x = quantize_tokens(view(kToken, 1), 3);
  const QuantizedWeights w = *quantize_weights(view(kWeights, 1), {2});
  CHECK(reference_code_products(x, w) == std::vector<int64_t>{26});
  std::vector<float> y(1);
  reference_gemm(x, w, view(y, 1));
  CHECK(y[0] == 1.0f);
}

TEST_CASE("worked example: balanced and binary weights") {
  const QuantizedWeights balanced = *quantize_weights(view(kWeights, 1), {2, true, 0, true});
  CHECK(balanced.scales[0] == 0.5f);
  CHECK(balanced.zeros[0] == 2);
  CHECK(balanced.codes == std::vector<uint8_t>{3, 2, 4, 1});
  const std::vector<unsigned> bytes = packed_bytes(balanced);
  CHECK(bytes.size() == 16);
  CHECK(bytes[0] == 0xf1);
  CHECK(bytes[1] == 0x00);

  const QuantizedWeights binary = *quantize_weights(view(kWeights, 1), {1});
  CHECK(binary.scales[0] == 1.125f);
  CHECK(binary.zeros[0] == 1);
  CHECK(binary.codes == std::vector<uint8_t>{1, 0, 1, 0});
  CHECK(dequantized(binary) == std::vector<float>{0.5625f, -0.5625f, 0.5625f, -0.5625f});
  CHECK(packed_bytes(binary)[0] == 0x05);
}
