#include "quant/packed_layout.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace abq::quant {
namespace {

static_assert(std::endian::native == std::endian::little, "packed rows are little-endian");

constexpr int64_t kPartAlignment = 16;  // planes and base-5 rows
constexpr int64_t kBase3Alignment = 8;  // 16 would cost 1.625 bits a weight at K = 4096

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
constexpr int64_t round_up(int64_t a, int64_t b) {
  return ceil_div(a, b) * b;
}

// A word of a dense encoding: `count` digits in `base`, least significant first, `bits` bits wide.
struct Dense {
  unsigned base;
  int64_t count;
  int64_t bits;
  unsigned words;  // base ^ count: the first invalid word
};
constexpr Dense kDense5 = {5, 3, 7, 125};
constexpr Dense kDense3 = {3, 5, 8, 243};

// The digits of every word, digit i in byte i.
constexpr std::array<uint64_t, 256> digits_of(const Dense& dense) {
  std::array<uint64_t, 256> digits = {};
  for (unsigned word = 0; word < dense.words; ++word) {
    unsigned rest = word;
    for (int64_t i = 0; i < dense.count; ++i, rest /= dense.base)
      digits[word] |= static_cast<uint64_t>(rest % dense.base) << (8 * i);
  }
  return digits;
}
constexpr std::array<uint64_t, 256> kDigits5 = digits_of(kDense5);
constexpr std::array<uint64_t, 256> kDigits3 = digits_of(kDense3);

const Dense& dense_of(Encoding encoding) {
  return encoding == Encoding::kBase5 ? kDense5 : kDense3;
}

// spread[b] holds bit i of byte b in byte i.
constexpr std::array<uint64_t, 256> kSpread = [] {
  std::array<uint64_t, 256> spread = {};
  for (uint64_t b = 0; b < 256; ++b)
    for (uint64_t i = 0; i < 8; ++i)
      spread[b] |= ((b >> i) & 1u) << (8 * i);
  return spread;
}();

// Bits `bit` of eight codes, code i at bit i: the product lines byte i up at bit 56 + i.
unsigned gather_plane_byte(uint64_t codes, int bit) {
  const uint64_t ones = (codes >> bit) & 0x0101010101010101u;
  return static_cast<unsigned>((ones * 0x0102040810204080u) >> 56);
}

void pack_planes(const PackedLayout& layout, std::span<const uint8_t> codes,
                 std::span<std::byte> packed) {
  const size_t plane_bytes = static_cast<size_t>(layout.plane_bytes());
  for (size_t t = 0; 8 * t < codes.size(); ++t) {
    uint64_t eight = 0;
    std::memcpy(&eight, codes.data() + 8 * t, std::min<size_t>(8, codes.size() - 8 * t));
    for (int b = 0; b < layout.code_bits; ++b)
      packed[static_cast<size_t>(b) * plane_bytes + t] =
          static_cast<std::byte>(gather_plane_byte(eight, b));
  }
}

Status unpack_planes(const PackedLayout& layout, std::span<const std::byte> packed,
                     std::span<uint8_t> codes) {
  const size_t plane_bytes = static_cast<size_t>(layout.plane_bytes());
  const size_t used = static_cast<size_t>(ceil_div(layout.k, 8));
  const unsigned tail_bits = static_cast<unsigned>(layout.k % 8);
  for (int b = 0; b < layout.code_bits; ++b) {
    const std::span<const std::byte> plane =
        packed.subspan(static_cast<size_t>(b) * plane_bytes, plane_bytes);
    unsigned padding = tail_bits ? std::to_integer<unsigned>(plane[used - 1]) >> tail_bits : 0;
    for (size_t t = used; t < plane_bytes; ++t)
      padding |= std::to_integer<unsigned>(plane[t]);
    if (padding != 0) return corrupt("plane {}: padding after code {} is not zero", b, layout.k);
  }
  for (size_t t = 0; t < used; ++t) {
    uint64_t eight = 0;
    for (int b = 0; b < layout.code_bits; ++b)
      eight |= kSpread[std::to_integer<size_t>(packed[static_cast<size_t>(b) * plane_bytes + t])]
               << b;
    std::memcpy(codes.data() + 8 * t, &eight, std::min<size_t>(8, codes.size() - 8 * t));
  }
  return {};
}

void pack_dense(const Dense& dense, std::span<const uint8_t> codes, std::span<std::byte> packed) {
  const size_t count = static_cast<size_t>(dense.count);
  uint64_t buffer = 0;
  int64_t filled = 0;
  size_t out = 0;
  for (size_t i = 0; i < codes.size(); i += count) {
    unsigned word = 0;
    for (size_t digit = std::min(count, codes.size() - i); digit-- > 0;) {
      ABQ_CHECK(codes[i + digit] < dense.base);
      word = word * dense.base + codes[i + digit];
    }
    buffer |= static_cast<uint64_t>(word) << filled;
    for (filled += dense.bits; filled >= 8; filled -= 8, buffer >>= 8)
      packed[out++] = static_cast<std::byte>(buffer & 0xffu);
  }
  if (filled > 0) packed[out] = static_cast<std::byte>(buffer);
}

Status unpack_dense(const Dense& dense, const std::array<uint64_t, 256>& digits,
                    std::span<const std::byte> packed, std::span<uint8_t> codes) {
  const size_t count = static_cast<size_t>(dense.count);
  uint64_t buffer = 0;
  int64_t filled = 0;
  size_t in = 0;
  for (size_t i = 0; i < codes.size(); i += count) {
    for (; filled < dense.bits; filled += 8)
      buffer |= std::to_integer<uint64_t>(packed[in++]) << filled;
    const size_t word = static_cast<size_t>(buffer & ((1u << dense.bits) - 1u));
    buffer >>= dense.bits;
    filled -= dense.bits;
    if (word >= dense.words) {
      return corrupt("word {}: value {} is out of range, expected less than {}", i / count, word,
                     dense.words);
    }
    const size_t used = std::min(count, codes.size() - i);
    std::memcpy(codes.data() + i, &digits[word], used);
    // What is left of a short last word is its padding.
    if (used < count) buffer |= digits[word] >> (8 * used);
  }
  for (; in < packed.size(); ++in)
    buffer |= std::to_integer<uint64_t>(packed[in]);
  if (buffer != 0) return corrupt("padding after code {} is not zero", codes.size());
  return {};
}

void check_sizes(const PackedLayout& layout, size_t codes, size_t packed) {
  ABQ_CHECK(static_cast<int64_t>(codes) == layout.k);
  ABQ_CHECK(static_cast<int64_t>(packed) == layout.row_bytes());
}

}  // namespace

std::string_view encoding_name(Encoding encoding) {
  switch (encoding) {
    case Encoding::kPlanes:
      return "planes";
    case Encoding::kBase5:
      return "base5";
    case Encoding::kBase3:
      return "base3";
  }
  return "unknown";
}

PackedLayout PackedLayout::for_weights(const WeightSpec& spec, int64_t n, int64_t k) {
  ABQ_CHECK(spec.quantized());
  PackedLayout layout{Encoding::kPlanes, spec.code_bits(), n, k};
  if (spec.balanced) layout.encoding = spec.bits == 2 ? Encoding::kBase5 : Encoding::kBase3;
  return layout;
}

int64_t PackedLayout::plane_bytes() const {
  return round_up(ceil_div(k, 8), kPartAlignment);
}

int64_t PackedLayout::row_bytes() const {
  if (encoding == Encoding::kPlanes) return code_bits * plane_bytes();
  const Dense& dense = dense_of(encoding);
  const int64_t bytes = ceil_div(ceil_div(k, dense.count) * dense.bits, 8);
  return round_up(bytes, encoding == Encoding::kBase5 ? kPartAlignment : kBase3Alignment);
}

std::string PackedLayout::to_string() const {
  return fmt::format("{}<{}>[{}, {}]", encoding_name(encoding), code_bits, n, k);
}

void pack_row(const PackedLayout& layout, std::span<const uint8_t> codes,
              std::span<std::byte> packed) {
  check_sizes(layout, codes.size(), packed.size());
  std::fill(packed.begin(), packed.end(), std::byte{0});
  if (layout.encoding == Encoding::kPlanes) {
    pack_planes(layout, codes, packed);
  } else {
    pack_dense(dense_of(layout.encoding), codes, packed);
  }
}

Status unpack_row(const PackedLayout& layout, std::span<const std::byte> packed,
                  std::span<uint8_t> codes) {
  check_sizes(layout, codes.size(), packed.size());
  if (layout.encoding == Encoding::kPlanes) return unpack_planes(layout, packed, codes);
  return layout.encoding == Encoding::kBase5 ? unpack_dense(kDense5, kDigits5, packed, codes)
                                             : unpack_dense(kDense3, kDigits3, packed, codes);
}

}  // namespace abq::quant
