// Quantized tokens on the device, and the comparison of all their forms with
// quant::QuantizedTokens.
#pragma once

#include "runtime/cuda/linear/tile_layout.h"
#include "tokens_test_support.h"

namespace abq::runtime::cuda {

enum Forms : unsigned { kPlaneForm = 1, kCodeForm = 2, kSumForm = 4, kGroupForm = 8, kAll = 15 };

// Every form of m tokens on the device, poisoned.
class TokenBuffers {
 public:
  TokenBuffers(int m, int k, int bits, unsigned forms = kAll)
      : m_(m),
        k_(k),
        bits_(bits),
        forms_(forms),
        tiles_(tiles_of(k, kTileDepth)),
        planes_(poisoned<uint32_t>(plane_rows(m) * tiles_ * bits * 8)),
        codes_(poisoned<uint8_t>(int64_t{tiles_of(m, 8)} * tiles_ * kTileDepth * 8)),
        scales_(poisoned<float>(m)),
        zeros_(poisoned<int32_t>(m)),
        sums_(poisoned<int32_t>(m)),
        groups_(poisoned<int32_t>(int64_t{m} * tiles_ * 8)) {}

  TokenTiles view() {
    TokenTiles tokens;
    tokens.m = m_;
    tokens.k = k_;
    tokens.bits = bits_;
    tokens.planes = forms_ & kPlaneForm ? planes_.data() : nullptr;
    tokens.codes = forms_ & kCodeForm ? codes_.data() : nullptr;
    tokens.scales = scales_.data();
    tokens.zeros = zeros_.data();
    tokens.sums = forms_ & kSumForm ? sums_.data() : nullptr;
    tokens.group_sums = forms_ & kGroupForm ? groups_.data() : nullptr;
    return tokens;
  }

  void check(const quant::QuantizedTokens& expected, const std::string& what) const {
    REQUIRE(expected.m == m_);
    check_params(expected, what);
    if (forms_ & kCodeForm) check_codes(expected, what);
    if (forms_ & kPlaneForm) check_planes(expected, what);
    if (forms_ & kSumForm) check_sums(expected, what);
    if (forms_ & kGroupForm) check_groups(expected, what);
  }

  // All memory, the forms one after another.
  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> all;
    const auto append = [&](const auto& array) {
      const auto values = require_value(array.download());
      const auto* first = reinterpret_cast<const uint8_t*>(values.data());
      all.insert(all.end(), first, first + array.bytes());
    };
    append(planes_);
    append(codes_);
    append(scales_);
    append(zeros_);
    append(sums_);
    append(groups_);
    return all;
  }

 private:
  uint32_t code(const quant::QuantizedTokens& expected, int token, int column) const {
    return column < k_ ? expected.codes[static_cast<size_t>(int64_t{token} * k_ + column)] : 0u;
  }

  void check_params(const quant::QuantizedTokens& expected, const std::string& what) const {
    const std::vector<float> scales = require_value(scales_.download());
    const std::vector<int32_t> zeros = require_value(zeros_.download());
    for (size_t i = 0; i < static_cast<size_t>(m_); ++i) {
      if (std::bit_cast<uint32_t>(scales[i]) != std::bit_cast<uint32_t>(expected.scales[i]) ||
          zeros[i] != expected.zeros[i]) {
        FAIL(what << ": token " << i << " expected scale " << expected.scales[i] << " zero "
                  << int{expected.zeros[i]} << " got " << scales[i] << " " << zeros[i]);
      }
    }
  }

  void check_codes(const quant::QuantizedTokens& expected, const std::string& what) const {
    const std::vector<uint8_t> codes = require_value(codes_.download());
    for (int token = 0; token < m_; ++token) {
      for (int column = 0; column < k_; ++column) {
        const int64_t index =
            ((int64_t{token / 8} * 16 * tiles_ + column / 16) * 8 + token % 8) * 16 + column % 16;
        const uint32_t got = codes[static_cast<size_t>(index)];
        if (got != code(expected, token, column)) {
          FAIL(what << ": codes: token " << token << " column " << column << " expected "
                    << code(expected, token, column) << " got " << got);
        }
      }
    }
  }

  uint32_t plane_of(const quant::QuantizedTokens& expected, int token, int tile, int plane, int t,
                    int h, uint32_t& known) const {
    uint32_t word = 0;
    known = 0;
    for (int s = 0; s < 8; ++s) {
      for (int b = 0; b < 4; ++b) {
        const int column = tile * kTileDepth + tile_input(s, h, t, b);
        if (column >= k_) continue;
        known |= 1u << (8 * b + s);
        word |= ((code(expected, token, column) >> plane) & 1u) << (8 * b + s);
      }
    }
    return word;
  }

  void check_planes(const quant::QuantizedTokens& expected, const std::string& what) const {
    const std::vector<uint32_t> planes = require_value(planes_.download());
    for (int token = 0; token < m_; ++token) {
      for (int tile = 0; tile < tiles_; ++tile) {
        for (int plane = 0; plane < bits_; ++plane) {
          for (int word = 0; word < 8; ++word) {
            const auto index = static_cast<size_t>(
                2 * plane_pair(m_, token, tiles_, tile, bits_, plane, word / 2) + word % 2);
            uint32_t known = 0;
            const uint32_t wanted =
                plane_of(expected, token, tile, plane, word / 2, word % 2, known);
            if ((planes[index] & known) != wanted) {
              FAIL(what << ": planes: token " << token << " tile " << tile << " plane " << plane
                        << " word (" << word / 2 << ", " << word % 2 << ") expected " << wanted
                        << " got " << planes[index] << " (mask " << known << ")");
            }
          }
        }
      }
    }
  }

  void check_sums(const quant::QuantizedTokens& expected, const std::string& what) const {
    const std::vector<int32_t> sums = require_value(sums_.download());
    for (int token = 0; token < m_; ++token) {
      int32_t sum = 0;
      for (int column = 0; column < k_; ++column)
        sum += static_cast<int32_t>(code(expected, token, column));
      if (sums[static_cast<size_t>(token)] != sum) {
        FAIL(what << ": sums: token " << token << " expected " << sum << " got "
                  << sums[static_cast<size_t>(token)]);
      }
    }
  }

  void check_groups(const quant::QuantizedTokens& expected, const std::string& what) const {
    const std::vector<int32_t> groups = require_value(groups_.download());
    for (int token = 0; token < m_; ++token) {
      for (int group = 0; group < 8 * tiles_; ++group) {
        int32_t sum = 0;
        for (int column = 32 * group; column < 32 * group + 32; ++column)
          sum += static_cast<int32_t>(code(expected, token, column));
        const int32_t got = groups[static_cast<size_t>(int64_t{token} * 8 * tiles_ + group)];
        if (got != sum) {
          FAIL(what << ": group sums: token " << token << " group " << group << " expected " << sum
                    << " got " << got);
        }
      }
    }
  }

  int m_;
  int k_;
  int bits_;
  unsigned forms_;
  int tiles_;
  DeviceArray<uint32_t> planes_;
  DeviceArray<uint8_t> codes_;
  DeviceArray<float> scales_;
  DeviceArray<int32_t> zeros_;
  DeviceArray<int32_t> sums_;
  DeviceArray<int32_t> groups_;
};

}  // namespace abq::runtime::cuda
