#include "quant/scheme.h"

#include <array>
#include <vector>

namespace abq::quant {
namespace {

constexpr std::string_view kGrammar =
    "a scheme reads w<bits>[b]a<bits>[-g<32|64|128>][-kv<bits>][-q<bits>][-sym], "
    "e.g. w2ba8-g128-kv8";
constexpr std::array kGroupSizes = {32, 64, 128};
// The suffixes in the order of the grammar.
constexpr std::array<std::string_view, 4> kSuffixes = {"-g", "-kv", "-q", "-sym"};
enum Suffix : size_t { kGroup, kKv, kQuery, kSym };

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_group_size(int size) {
  for (const int allowed : kGroupSizes)
    if (size == allowed) return true;
  return false;
}

// Reads a scheme from left to right; every error names the character (from 1) it stands at.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Scheme> parse() {
    ABQ_RETURN_IF_ERROR(expect_letter('w'));
    ABQ_RETURN_IF_ERROR(read_bits("weight", 1, scheme_.weights.bits));
    const size_t balance_at = at_;
    scheme_.weights.balanced = accept("b");
    if (scheme_.weights.balanced && scheme_.weights.bits > 2) {
      return error(balance_at, "bit balance exists for 1 and 2 weight bits only, got {} bits",
                   scheme_.weights.bits);
    }
    const size_t activation_at = at_;
    ABQ_RETURN_IF_ERROR(expect_letter('a'));
    ABQ_RETURN_IF_ERROR(read_bits("activation", 1, scheme_.activation_bits));
    if (!scheme_.weights.quantized() && scheme_.activation_bits < 16) {
      return error(activation_at,
                   "quantized activations need quantized weights: with w16 expected a16, got a{}",
                   scheme_.activation_bits);
    }
    while (at_ < text_.size())
      ABQ_RETURN_IF_ERROR(read_suffix());
    return scheme_;
  }

 private:
  template <class... Args>
  Status error(size_t at, fmt::format_string<Args...> format, Args&&... args) const {
    return invalid_argument("scheme \"{}\": character {}: {}; {}", text_, at + 1,
                            fmt::format(format, std::forward<Args>(args)...), kGrammar);
  }

  std::string found(size_t at) const {
    return at < text_.size() ? fmt::format("'{}'", text_[at]) : std::string("the end");
  }

  bool accept(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  Status expect_letter(char letter) {
    if (at_ < text_.size() && text_[at_] == letter) {
      ++at_;
      return {};
    }
    return error(at_, "expected '{}', got {}", letter, found(at_));
  }

  // A decimal number without leading zeros; `expected` says what the number should have been.
  Status read_number(std::string_view expected, int& value) {
    const size_t begin = at_;
    size_t end = begin;
    while (end < text_.size() && is_digit(text_[end]))
      ++end;
    if (end == begin) return error(begin, "expected {}, got {}", expected, found(begin));
    const std::string_view digits = text_.substr(begin, end - begin);
    // Four digits are more than any number of the grammar has, and can not overflow.
    if (digits.size() > 4 || digits[0] == '0') {
      return error(begin, "expected {}, got {}", expected, digits);
    }
    value = 0;
    for (const char c : digits)
      value = 10 * value + (c - '0');
    at_ = end;
    return {};
  }

  Status read_bits(std::string_view what, int least, int& bits) {
    const size_t begin = at_;
    const std::string expected = fmt::format("{} bits {}..8 or 16", what, least);
    ABQ_RETURN_IF_ERROR(read_number(expected, bits));
    if ((bits >= least && bits <= 8) || bits == 16) return {};
    return error(begin, "expected {}, got {}", expected, bits);
  }

  Status read_group(size_t suffix_at) {
    const size_t begin = at_;
    constexpr std::string_view kExpected = "group size 32, 64 or 128";
    ABQ_RETURN_IF_ERROR(read_number(kExpected, scheme_.weights.group_size));
    if (!is_group_size(scheme_.weights.group_size)) {
      return error(begin, "expected {}, got {}", kExpected, scheme_.weights.group_size);
    }
    return needs_quantized_weights(suffix_at, kSuffixes[kGroup]);
  }

  Status needs_quantized_weights(size_t suffix_at, std::string_view suffix) const {
    if (scheme_.weights.quantized()) return {};
    return error(suffix_at, "{} needs quantized weights, got w16", suffix);
  }

  Status read_suffix() {
    const size_t begin = at_;
    size_t which = 0;
    while (which < kSuffixes.size() && !accept(kSuffixes[which]))
      ++which;
    if (which == kSuffixes.size()) {
      return error(begin, "expected -g, -kv, -q, -sym or the end, got \"{}\"", text_.substr(begin));
    }
    if (seen_[which]) return error(begin, "{} is given twice", kSuffixes[which]);
    for (size_t later = which + 1; later < kSuffixes.size(); ++later) {
      if (seen_[later]) {
        return error(begin, "{} stands after {}; the order is -g, -kv, -q, -sym", kSuffixes[which],
                     kSuffixes[later]);
      }
    }
    seen_[which] = true;
    switch (which) {
      case kGroup:
        return read_group(begin);
      case kKv:
        return read_bits("KV-cache", 2, scheme_.kv_bits);
      case kQuery:
        return read_bits("query", 2, scheme_.query_bits);
      default:
        scheme_.weights.symmetric = true;
        return needs_quantized_weights(begin, kSuffixes[kSym]);
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  Scheme scheme_;
  std::array<bool, kSuffixes.size()> seen_ = {};
};

// "32, 64 or per-channel": the choices that K allows.
std::string usable_group_sizes(int64_t k) {
  std::vector<std::string> sizes;
  for (const int size : kGroupSizes)
    if (k % size == 0) sizes.push_back(std::to_string(size));
  if (sizes.empty()) return "per-channel";
  return fmt::format("{} or per-channel", fmt::join(sizes, ", "));
}

}  // namespace

Result<Scheme> parse_scheme(std::string_view text) {
  return Parser(text).parse();
}

std::string to_string(const Scheme& scheme) {
  std::string text = fmt::format("w{}{}a{}", scheme.weights.bits,
                                 scheme.weights.balanced ? "b" : "", scheme.activation_bits);
  if (scheme.weights.group_size != 0) text += fmt::format("-g{}", scheme.weights.group_size);
  if (scheme.kv_bits != 16) text += fmt::format("-kv{}", scheme.kv_bits);
  if (scheme.query_bits != 16) text += fmt::format("-q{}", scheme.query_bits);
  if (scheme.weights.symmetric) text += "-sym";
  return text;
}

Status check_weight_spec(const WeightSpec& spec, int64_t k) {
  const bool known_width = (spec.bits >= 1 && spec.bits <= 8) || spec.bits == 16;
  if (!known_width) return invalid_argument("expected weight bits 1..8 or 16, got {}", spec.bits);
  if (spec.balanced && spec.bits > 2) {
    return invalid_argument("bit balance exists for 1 and 2 weight bits only, got {} bits",
                            spec.bits);
  }
  if (k <= 0) return invalid_argument("expected at least one input, got K={}", k);
  if (!spec.quantized()) {
    if (spec.group_size == 0 && !spec.symmetric) return {};
    return invalid_argument(
        "16-bit weights have no group size and no symmetry; quantize to 1..8 "
        "bits or drop both");
  }
  if (spec.group_size == 0) return {};
  if (spec.group_size < 0 || k % spec.group_size != 0) {
    return invalid_argument("group size {} does not divide K={}; use {}", spec.group_size, k,
                            usable_group_sizes(k));
  }
  if (!is_group_size(spec.group_size)) {
    return invalid_argument("group size {} is not supported; use {}", spec.group_size,
                            usable_group_sizes(k));
  }
  return {};
}

}  // namespace abq::quant
