#include "quant/packed_layout.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/quant/quant_test_util.h"

using namespace abq;
using namespace abq::quant;

namespace {

struct Coding {
  PackedLayout layout;
  int levels;
};

std::vector<Coding> every_coding(int64_t k) {
  std::vector<Coding> codings;
  for (const WeightSpec& spec : every_weight_spec({0})) {
    if (!spec.symmetric) codings.push_back({PackedLayout::for_weights(spec, 1, k), spec.levels()});
  }
  // Balanced codes as planes, the form that kernels expand to.
  codings.push_back({{Encoding::kPlanes, 3, 1, k}, 5});
  codings.push_back({{Encoding::kPlanes, 2, 1, k}, 3});
  return codings;
}

std::vector<std::byte> pack(const PackedLayout& layout, const std::vector<uint8_t>& codes) {
  std::vector<std::byte> packed(static_cast<size_t>(layout.row_bytes()), std::byte{0xff});
  pack_row(layout, codes, packed);
  return packed;
}

std::vector<unsigned> first_bytes(const std::vector<std::byte>& packed, size_t count) {
  std::vector<unsigned> bytes;
  for (size_t i = 0; i < count; ++i)
    bytes.push_back(std::to_integer<unsigned>(packed[i]));
  return bytes;
}

double bits_per_weight(const WeightSpec& spec, int64_t k) {
  const PackedLayout layout = PackedLayout::for_weights(spec, 1, k);
  return 8.0 * static_cast<double>(layout.row_bytes()) / static_cast<double>(k);
}

}  // namespace

TEST_CASE("every layout packs and unpacks every K from 1 to 130") {
  for (int64_t k = 1; k <= 130; ++k) {
    for (const Coding& coding : every_coding(k)) {
      const std::vector<uint8_t> codes = random_codes(static_cast<uint64_t>(k), k, coding.levels);
      const std::vector<std::byte> packed = pack(coding.layout, codes);
      std::vector<uint8_t> unpacked(codes.size(), 0xee);
      const Status status = unpack_row(coding.layout, packed, unpacked);
      CHECK_MESSAGE(status.ok(), coding.layout.to_string(), status.message());
      CHECK_MESSAGE(unpacked == codes, coding.layout.to_string());
    }
  }
}

TEST_CASE("any flipped bit is refused or changes a code: no bit of a row is ignored") {
  for (const int64_t k : {1, 7, 8, 9, 64, 100, 128}) {
    for (const Coding& coding : every_coding(k)) {
      const std::vector<uint8_t> codes = random_codes(9, k, coding.levels);
      std::vector<std::byte> packed = pack(coding.layout, codes);
      int ignored = 0;
      for (size_t bit = 0; bit < 8 * packed.size(); ++bit) {
        packed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        std::vector<uint8_t> unpacked(codes.size());
        const Status status = unpack_row(coding.layout, packed, unpacked);
        if (!status.ok()) CHECK(status.code() == StatusCode::kCorrupt);
        ignored += status.ok() && unpacked == codes;
        packed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      }
      CHECK_MESSAGE(ignored == 0, coding.layout.to_string());
    }
  }
}

TEST_CASE("planes hold bit b of code 8t + i at bit i of byte t") {
  const PackedLayout layout{Encoding::kPlanes, 2, 1, 9};
  CHECK(layout.plane_bytes() == 16);
  CHECK(layout.row_bytes() == 32);
  const std::vector<std::byte> packed = pack(layout, {1, 0, 2, 3, 0, 0, 1, 0, 3});
  CHECK(first_bytes(packed, 3) == std::vector<unsigned>{0b01001001, 1, 0});
  CHECK(std::to_integer<unsigned>(packed[16]) == 0b00001100);
  CHECK(std::to_integer<unsigned>(packed[17]) == 1);
}

TEST_CASE("base-5 words are c0 + 5 c1 + 25 c2 in a little-endian stream of 7 bits each") {
  const PackedLayout layout = PackedLayout::for_weights({2, true}, 1, 7);
  // Words 1 + 10 + 75 = 86, 4 + 20 + 100 = 124, and 3 with two padding codes: 21 bits.
  const std::vector<std::byte> packed = pack(layout, {1, 2, 3, 4, 4, 4, 3});
  const unsigned stream = 86u | 124u << 7 | 3u << 14;
  CHECK(first_bytes(packed, 4) ==
        std::vector<unsigned>{stream & 255, stream >> 8 & 255, stream >> 16, 0});
}

TEST_CASE("base-3 words are c0 + 3 c1 + 9 c2 + 27 c3 + 81 c4, one byte each") {
  const PackedLayout layout = PackedLayout::for_weights({1, true}, 1, 6);
  CHECK(layout.row_bytes() == 8);
  const std::vector<std::byte> packed = pack(layout, {2, 2, 2, 2, 2, 1});
  CHECK(first_bytes(packed, 3) == std::vector<unsigned>{242, 1, 0});
}

TEST_CASE("words beyond the last value are refused with their position") {
  const PackedLayout base5 = PackedLayout::for_weights({2, true}, 1, 6);
  std::vector<std::byte> packed(static_cast<size_t>(base5.row_bytes()));
  std::vector<uint8_t> codes(6);
  packed[0] = std::byte{125};
  CHECK(unpack_row(base5, packed, codes).message() ==
        "word 0: value 125 is out of range, expected less than 125");
  const PackedLayout base3 = PackedLayout::for_weights({1, true}, 1, 6);
  packed.assign(static_cast<size_t>(base3.row_bytes()), std::byte{0});
  packed[1] = std::byte{243};
  CHECK(unpack_row(base3, packed, codes).message() ==
        "word 1: value 243 is out of range, expected less than 243");
}

TEST_CASE("nonzero padding is refused: after the codes, in the last word, in the row's tail") {
  std::vector<uint8_t> codes(4);
  const PackedLayout planes{Encoding::kPlanes, 2, 1, 4};
  std::vector<std::byte> packed(32);
  packed[16] = std::byte{0x10};
  CHECK(unpack_row(planes, packed, codes).message() == "plane 1: padding after code 4 is not zero");
  const PackedLayout base5 = PackedLayout::for_weights({2, true}, 1, 4);
  packed.assign(16, std::byte{0});
  packed[1] = std::byte{5 >> 1};  // word 1 = 5: its second code is 1
  packed[0] = std::byte{(5 & 1) << 7};
  CHECK(unpack_row(base5, packed, codes).message() == "padding after code 4 is not zero");
  packed.assign(16, std::byte{0});
  packed[15] = std::byte{0x80};
  CHECK(unpack_row(base5, packed, codes).message() == "padding after code 4 is not zero");
}

TEST_CASE("balanced weights stay within 2.35 and 1.62 bits, padding included") {
  CHECK(bits_per_weight({2, true}, 4096) <= 2.35);
  CHECK(bits_per_weight({2, true}, 11008) <= 2.35);
  CHECK(bits_per_weight({2, true}, 384) == doctest::Approx(7.0 / 3.0));
  CHECK(bits_per_weight({1, true}, 4096) <= 1.62);
  CHECK(bits_per_weight({1, true}, 11008) <= 1.62);
  CHECK(bits_per_weight({4}, 4096) == 4.0);
  CHECK(bits_per_weight({1}, 11008) == 1.0);
}

TEST_CASE("a layout prints its encoding, planes and shape") {
  CHECK(PackedLayout::for_weights({4}, 4096, 11008).to_string() == "planes<4>[4096, 11008]");
  CHECK(PackedLayout::for_weights({2, true}, 8, 9).to_string() == "base5<3>[8, 9]");
  CHECK(PackedLayout::for_weights({1, true}, 8, 9).to_string() == "base3<2>[8, 9]");
  CHECK(PackedLayout::for_weights({1, true}, 8, 9).total_bytes() == 64);
}
