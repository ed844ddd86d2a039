#include "runtime/kv_cache.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "quant/affine.h"
#include "support/random.h"

namespace abq::runtime {
namespace {

std::vector<float> random_rows(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values)
    value = static_cast<float>(random.normal());
  return values;
}

}  // namespace

TEST_CASE("what is read from a quantized cache is the fake-quantized value, at every width") {
  constexpr int kHeads = 3;
  constexpr int kDim = 20;
  constexpr int64_t kTokens = 70;
  for (int bits = 2; bits <= 8; ++bits) {
    CAPTURE(bits);
    std::vector<float> values = random_rows(kTokens * kHeads * kDim, 11);
    KvStore store(bits, kHeads, kDim, kTokens);
    const int64_t columns = kHeads * kDim;
    store.write(0, {values.data(), 30, columns});
    store.write(30, {values.data() + 30 * columns, kTokens - 30, columns});
    quant::fake_quantize_tokens({values.data(), kTokens * kHeads, kDim}, bits);
    std::vector<float> scratch;
    const MatrixView<const float> read = store.read(kTokens, scratch);
    for (size_t i = 0; i < values.size(); ++i)
      REQUIRE(read.data[i] == values[i]);
  }
}

TEST_CASE("a cache of 16 bits returns what was written") {
  const std::vector<float> values = random_rows(4 * 2 * 8, 3);
  KvStore store(16, 2, 8, 4);
  store.write(0, {values.data(), 4, 16});
  std::vector<float> scratch;
  const MatrixView<const float> read = store.read(4, scratch);
  CHECK(scratch.empty());
  for (size_t i = 0; i < values.size(); ++i)
    CHECK(read.data[i] == values[i]);
}

TEST_CASE("a store for a context of millions costs what is written to it") {
  constexpr int64_t kContext = int64_t{1} << 24;
  constexpr int64_t kColumns = 32 * 128;
  for (const int bits : {4, 16}) {
    // Terabytes in all: more than any machine gives.
    std::vector<KvStore> stores;
    for (int i = 0; i < 64; ++i)
      stores.emplace_back(bits, 32, 128, kContext);
    std::vector<float> values = random_rows(3 * kColumns, 5);
    KvStore& store = stores.back();
    for (int64_t token = 0; token < 3; ++token)
      store.write(token, {values.data() + token * kColumns, 1, kColumns});
    std::vector<float> scratch;
    const MatrixView<const float> read = store.read(3, scratch);
    if (bits < 16) quant::fake_quantize_tokens({values.data(), 3 * 32, 128}, bits);
    CHECK(std::equal(values.begin(), values.end(), read.data));
    CHECK(store.memory_bytes() > kContext * kColumns / 2);
  }
}

TEST_CASE("a later write at a position replaces the earlier one") {
  const std::vector<float> first = random_rows(16, 3);
  std::vector<float> second = random_rows(16, 4);
  KvStore store(4, 2, 8, 4);
  store.write(2, {first.data(), 1, 16});
  store.write(2, {second.data(), 1, 16});
  quant::fake_quantize_tokens({second.data(), 2, 8}, 4);
  std::vector<float> scratch;
  const MatrixView<const float> read = store.read(3, scratch);
  for (size_t i = 0; i < second.size(); ++i)
    CHECK(read.row(2)[i] == second[i]);
}

}  // namespace abq::runtime
