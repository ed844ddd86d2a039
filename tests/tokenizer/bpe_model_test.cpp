#include "tokenizer/bpe_model.h"

#include <doctest/doctest.h>

#include <chrono>

namespace abq::tokenizer {
namespace {

// a=0 b=1 c=2 ab=3 bc=4 abc=5 <unk>=6; ab before bc before ab+c.
BpeModel make_model(BpeOptions options = {}) {
  Vocabulary vocabulary = {{"a", 0},  {"b", 1},   {"c", 2},    {"ab", 3},
                           {"bc", 4}, {"abc", 5}, {"<unk>", 6}};
  Merges merges = {{merge_key(0, 1), {0, 3}}, {merge_key(1, 2), {1, 4}}, {merge_key(3, 2), {2, 5}}};
  return BpeModel(std::move(vocabulary), std::move(merges), options);
}

std::vector<int32_t> encode(const BpeModel& model, std::string_view word) {
  std::vector<int32_t> ids;
  model.encode(word, ids);
  return ids;
}
using Ids = std::vector<int32_t>;

TEST_CASE("the pair of lowest rank is merged first, leftmost first") {
  const BpeModel model = make_model();
  CHECK(encode(model, "abc") == Ids{5});
  CHECK(encode(model, "bcb") == Ids{4, 1});
  CHECK(encode(model, "abab") == Ids{3, 3});
  CHECK(encode(model, "") == Ids{});
}

TEST_CASE("unknown characters vanish without an unk token") {
  CHECK(encode(make_model(), "axb") == Ids{3});
}

TEST_CASE("consecutive unknown characters are one unk only when fused") {
  BpeOptions options;
  options.unk_id = 6;
  CHECK(encode(make_model(options), "axyb") == Ids{0, 6, 6, 1});
  options.fuse_unk = true;
  CHECK(encode(make_model(options), "axyb") == Ids{0, 6, 1});
}

TEST_CASE("byte fallback needs all the bytes of the character") {
  Vocabulary vocabulary = {{"a", 0}, {"<0xC3>", 1}, {"<0xA9>", 2}, {"<unk>", 3}};
  BpeOptions options;
  options.unk_id = 3;
  options.byte_fallback = true;
  const BpeModel model(std::move(vocabulary), {}, options);
  CHECK(encode(model, "a\xC3\xA9") == Ids{0, 1, 2});
  CHECK(encode(model, "a\xC3\xAA") == Ids{0, 3});
}

TEST_CASE("ignore_merges takes a word that is a token as it is") {
  Vocabulary vocabulary = {{"a", 0}, {"b", 1}, {"ab", 2}};
  BpeOptions options;
  options.ignore_merges = true;
  CHECK(encode(BpeModel(vocabulary, {}, options), "ab") == Ids{2});
  CHECK(encode(BpeModel(vocabulary, {}, {}), "ab") == Ids{0, 1});
}

TEST_CASE("a word of a million characters takes well below quadratic time") {
  const BpeModel model = make_model();
  std::string word;
  for (int i = 0; i < 333333; ++i)
    word += "abc";
  const auto start = std::chrono::steady_clock::now();
  CHECK(encode(model, word).size() == 333333);
  // Quadratic would be hours; the bound is loose for slow machines and sanitizers.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}

}  // namespace
}  // namespace abq::tokenizer
