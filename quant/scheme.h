// The scheme grammar: how many bits each kind of number gets.
//
//   w<bits>[b]a<bits>[-g<32|64|128>][-kv<bits>][-q<bits>][-sym]      e.g. w2ba8-g128-kv8
//
// Weight bits 1..8 or 16, `b` = bit balance (1 and 2 bits only), activation bits 1..8 or 16, group
// size (none = per output channel), KV-cache bits 2..8 or 16, query bits 2..8 or 16 (both 16 unless
// given), `-sym` for symmetric weights. The published setting of WxAy is `wXaY-kvY-qY`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "support/status.h"

namespace abq::quant {

// How the weights of one linear layer are quantized.
struct WeightSpec {
  int bits = 16;          // 1..8, or 16 = not quantized
  bool balanced = false;  // 2^bits + 1 levels, symmetric about zero when `symmetric`
  int group_size = 0;     // consecutive inputs that share a scale; 0 = per output channel
  bool symmetric = false;

  bool quantized() const { return bits < 16; }
  // Number of levels L: 2^bits, or 2^bits + 1 with bit balance.
  int levels() const { return (1 << bits) + (balanced ? 1 : 0); }
  // Planes that hold a code 0..L-1: bits, or bits + 1 with bit balance.
  int code_bits() const { return bits + (balanced ? 1 : 0); }
  // One bit without balance is binary: w' = s (2q - 1), zero point 1/2.
  bool binary() const { return bits == 1 && !balanced; }
  // Zero points are stored as integers over this denominator (2 for binary, else 1).
  int zero_denominator() const { return binary() ? 2 : 1; }
  // Scales per output channel for K inputs.
  int64_t groups(int64_t k) const { return group_size == 0 ? 1 : k / group_size; }

  bool operator==(const WeightSpec&) const = default;
};

struct Scheme {
  WeightSpec weights;
  int activation_bits = 16;
  int kv_bits = 16;
  int query_bits = 16;

  bool operator==(const Scheme&) const = default;
};

// InvalidArgument names the position, what was expected there and the whole grammar's example.
Result<Scheme> parse_scheme(std::string_view text);
// The canonical spelling; parse_scheme(to_string(s)) == s.
std::string to_string(const Scheme& scheme);

// InvalidArgument when `spec` cannot quantize a weight with K inputs, e.g.
//   group size 96 does not divide K=11008; use 32, 64, 128 or per-channel
Status check_weight_spec(const WeightSpec& spec, int64_t k);

}  // namespace abq::quant
