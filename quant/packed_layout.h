// The canonical, architecture-neutral layout of packed weight codes in an artifact.
//
// A matrix of codes [N, K] is stored row by row; each part of a row is padded with zero bits to a
// multiple of 16 bytes (8 for base-3, which would otherwise exceed 1.62 bits a weight at K = 4096).
// Use row_bytes(), never the alignment. Three encodings:
//
//   kPlanes  row n = plane 0 | plane 1 | ... | plane p-1, plane b holding bit b of each code:
//              byte t of a plane, bit i (LSB first) = bit b of code[n][8t + i]
//              plane_bytes = round_up(ceil(K / 8), 16)
//   kBase5   5-level codes, 3 in 7 bits: c0 + 5 c1 + 25 c2 < 125, the 7-bit words of a row form one
//              little-endian bit stream (word t at bits 7t .. 7t+6); a short last word is padded
//              with code 0. 2.333 bits a weight
//   kBase3   3-level codes, 5 in 8 bits: c0 + 3 c1 + 9 c2 + 27 c3 + 81 c4 < 243, one byte each.
//              1.6 bits a weight
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "quant/scheme.h"
#include "support/status.h"

namespace abq::quant {

enum class Encoding { kPlanes, kBase5, kBase3 };
std::string_view encoding_name(Encoding encoding);  // "planes", "base5", "base3"

struct PackedLayout {
  Encoding encoding = Encoding::kPlanes;
  int code_bits = 0;  // planes per code; also the width of an expanded base-5 / base-3 code (3 / 2)
  int64_t n = 0;
  int64_t k = 0;

  // The dense layout for codes of `spec`: base-5 and base-3 for balanced codes, planes otherwise.
  static PackedLayout for_weights(const WeightSpec& spec, int64_t n, int64_t k);

  int64_t plane_bytes() const;  // kPlanes only: bytes of one plane of one row
  int64_t row_bytes() const;
  int64_t total_bytes() const { return n * row_bytes(); }
  std::string to_string() const;  // "planes<4>[4096, 11008]"

  bool operator==(const PackedLayout&) const = default;
};

// codes[K] <-> packed[row_bytes]; every code is below the number of levels. Packing zeroes the
// padding. Unpacking refuses (Corrupt) nonzero padding and words out of range (>= 125, >= 243).
void pack_row(const PackedLayout& layout, std::span<const uint8_t> codes,
              std::span<std::byte> packed);
Status unpack_row(const PackedLayout& layout, std::span<const std::byte> packed,
                  std::span<uint8_t> codes);

}  // namespace abq::quant
