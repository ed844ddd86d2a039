#include "quant/scheme.h"

#include <doctest/doctest.h>

#include <vector>

using namespace abq;
using namespace abq::quant;

namespace {

std::string error_of(std::string_view text) {
  const Result<Scheme> result = parse_scheme(text);
  REQUIRE_MESSAGE(!result.ok(), text);
  CHECK(result.status().code() == StatusCode::kInvalidArgument);
  return result.status().message();
}

// The error quotes the whole scheme, the character where it stopped and what was expected there.
void check_refused(std::string_view text, int character, std::string_view expectation) {
  const std::string message = error_of(text);
  const std::string start =
      fmt::format("scheme \"{}\": character {}: {}; ", text, character, expectation);
  CHECK_MESSAGE(message.starts_with(start), message, "\nexpected\n", start);
  CHECK(message.ends_with("e.g. w2ba8-g128-kv8"));
}

}  // namespace

TEST_CASE("schemes of the grammar parse into their parts") {
  const Scheme scheme = *parse_scheme("w2ba8-g128-kv8");
  CHECK(scheme == Scheme{{2, true, 128, false}, 8, 8, 16});
  CHECK(*parse_scheme("w4a4-kv4-q4") == Scheme{{4, false, 0, false}, 4, 4, 4});
  CHECK(*parse_scheme("w16a16") == Scheme{{16, false, 0, false}, 16, 16, 16});
  CHECK(*parse_scheme("w4a16") == Scheme{{4, false, 0, false}, 16, 16, 16});
  CHECK(*parse_scheme("w3a8-sym") == Scheme{{3, false, 0, true}, 8, 16, 16});
  CHECK(*parse_scheme("w1ba1-g32-kv2-q3-sym") == Scheme{{1, true, 32, true}, 1, 2, 3});
  CHECK(*parse_scheme("w16a16-kv8-q8") == Scheme{{16, false, 0, false}, 16, 8, 8});
  CHECK(*parse_scheme("w8a8-kv16-q16") == Scheme{{8, false, 0, false}, 8, 16, 16});
}

TEST_CASE("every scheme survives printing and parsing") {
  const std::vector<int> widths = {1, 2, 3, 4, 5, 6, 7, 8, 16};
  const std::vector<int> cache_widths = {2, 3, 4, 5, 6, 7, 8, 16};
  int count = 0;
  int wrong = 0;
  for (const int bits : widths)
    for (const bool balanced : {false, true})
      for (const bool symmetric : {false, true})
        for (const int group : {0, 32, 64, 128})
          for (const int activation : widths)
            for (const int kv : cache_widths)
              for (const int query : cache_widths) {
                if (balanced && bits > 2) continue;
                if (bits == 16 && (activation != 16 || group != 0 || symmetric)) continue;
                const Scheme scheme{{bits, balanced, group, symmetric}, activation, kv, query};
                const Result<Scheme> parsed = parse_scheme(to_string(scheme));
                wrong += !parsed.ok() || !(*parsed == scheme);
                ++count;
              }
  CHECK(wrong == 0);
  CHECK(count == 8 * 8 * (10 * 2 * 4 * 9 + 1));
}

TEST_CASE("the canonical spelling leaves out defaults") {
  CHECK(to_string(*parse_scheme("w8a8-kv16-q16")) == "w8a8");
  CHECK(to_string(*parse_scheme("w2ba8-g128-kv8")) == "w2ba8-g128-kv8");
}

TEST_CASE("a malformed scheme is refused at the character where it goes wrong") {
  check_refused("", 1, "expected 'w', got the end");
  check_refused("a8w8", 1, "expected 'w', got 'a'");
  check_refused("W8a8", 1, "expected 'w', got 'W'");
  check_refused("w", 2, "expected weight bits 1..8 or 16, got the end");
  check_refused("wxa8", 2, "expected weight bits 1..8 or 16, got 'x'");
  check_refused("w0a8", 2, "expected weight bits 1..8 or 16, got 0");
  check_refused("w9a8", 2, "expected weight bits 1..8 or 16, got 9");
  check_refused("w04a8", 2, "expected weight bits 1..8 or 16, got 04");
  check_refused("w-4a8", 2, "expected weight bits 1..8 or 16, got '-'");
  check_refused("w99999999999999999999a8", 2,
                "expected weight bits 1..8 or 16, got 99999999999999999999");
  check_refused("w8", 3, "expected 'a', got the end");
  check_refused("w2*a8", 3, "expected 'a', got '*'");
  check_refused("w8a", 4, "expected activation bits 1..8 or 16, got the end");
  check_refused("w8a12", 4, "expected activation bits 1..8 or 16, got 12");
  check_refused("w8a8 ", 5, "expected -g, -kv, -q, -sym or the end, got \" \"");
  check_refused("w8a8-", 5, "expected -g, -kv, -q, -sym or the end, got \"-\"");
  check_refused("w8a8-foo", 5, "expected -g, -kv, -q, -sym or the end, got \"-foo\"");
  check_refused("w8a8-symx", 9, "expected -g, -kv, -q, -sym or the end, got \"x\"");
  check_refused("w8a8-g", 7, "expected group size 32, 64 or 128, got the end");
  check_refused("w8a8-g96", 7, "expected group size 32, 64 or 128, got 96");
  check_refused("w8a8-kv1", 8, "expected KV-cache bits 2..8 or 16, got 1");
  check_refused("w8a8-q9", 7, "expected query bits 2..8 or 16, got 9");
}

TEST_CASE("suffixes given twice or out of the grammar's order are refused") {
  check_refused("w8a8-g32-g64", 9, "-g is given twice");
  check_refused("w8a8-sym-sym", 9, "-sym is given twice");
  check_refused("w8a8-kv8-g32", 9, "-g stands after -kv; the order is -g, -kv, -q, -sym");
  check_refused("w8a8-sym-q8", 9, "-q stands after -sym; the order is -g, -kv, -q, -sym");
}

TEST_CASE("combinations without a meaning are refused") {
  check_refused("w3ba8", 3, "bit balance exists for 1 and 2 weight bits only, got 3 bits");
  check_refused("w16ba16", 4, "bit balance exists for 1 and 2 weight bits only, got 16 bits");
  check_refused("w16a16-g128", 7, "-g needs quantized weights, got w16");
  check_refused("w16a16-sym", 7, "-sym needs quantized weights, got w16");
  check_refused("w16a8", 4,
                "quantized activations need quantized weights: with w16 expected a16, got a8");
}

TEST_CASE("no prefix, mutation or byte string makes the parser misbehave") {
  const std::string scheme = "w2ba8-g128-kv8-q4-sym";
  for (size_t length = 0; length < scheme.size(); ++length)
    (void)parse_scheme(scheme.substr(0, length));
  for (size_t at = 0; at < scheme.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string mutated = scheme;
      mutated[at] = static_cast<char>(byte);
      const Result<Scheme> parsed = parse_scheme(mutated);
      if (parsed.ok()) CHECK(*parse_scheme(to_string(*parsed)) == *parsed);
    }
  }
}

TEST_CASE("derived numbers of a weight spec") {
  CHECK(WeightSpec{8}.levels() == 256);
  CHECK(WeightSpec{2, true}.levels() == 5);
  CHECK(WeightSpec{2, true}.code_bits() == 3);
  CHECK(WeightSpec{1, true}.levels() == 3);
  CHECK(WeightSpec{1, true}.code_bits() == 2);
  CHECK(WeightSpec{1}.zero_denominator() == 2);
  CHECK(WeightSpec{1, true}.zero_denominator() == 1);
  CHECK(WeightSpec{4, false, 128}.groups(11008) == 86);
  CHECK(WeightSpec{4}.groups(11008) == 1);
}

TEST_CASE("a group size that does not divide K is refused with the sizes that would") {
  CHECK(check_weight_spec({4, false, 96}, 11008).message() ==
        "group size 96 does not divide K=11008; use 32, 64, 128 or per-channel");
  CHECK(check_weight_spec({4, false, 128}, 96).message() ==
        "group size 128 does not divide K=96; use 32 or per-channel");
  CHECK(check_weight_spec({4, false, 32}, 33).message() ==
        "group size 32 does not divide K=33; use per-channel");
  CHECK(check_weight_spec({4, false, 96}, 192).message() ==
        "group size 96 is not supported; use 32, 64 or per-channel");
  CHECK(!check_weight_spec({4, false, -32}, 64).ok());
  CHECK(check_weight_spec({4, false, 128}, 11008).ok());
}

TEST_CASE("weight specs outside the definition are refused") {
  CHECK(!check_weight_spec({0}, 64).ok());
  CHECK(!check_weight_spec({9}, 64).ok());
  CHECK(!check_weight_spec({3, true}, 64).ok());
  CHECK(!check_weight_spec({4}, 0).ok());
  CHECK(!check_weight_spec({16, false, 128}, 128).ok());
  CHECK(!check_weight_spec({16, false, 0, true}, 128).ok());
  CHECK(check_weight_spec({16}, 128).ok());
}
