#include "tokenizer/added_tokens.h"

#include "tests/tokenizer/fixtures.h"

namespace abq::tokenizer {
namespace {

AddedToken token(int32_t id, std::string content) {
  return {id, std::move(content), false, false, false, false, false};
}

// "[7]" for an added token, "text" between.
std::string split(const std::vector<AddedToken>& tokens, std::string_view text) {
  Result<AddedTokenFinder> finder = AddedTokenFinder::create(tokens, false, Normalizer());
  REQUIRE(finder.ok());
  Result<std::vector<Segment>> segments = finder->split(text);
  REQUIRE(segments.ok());
  std::string shown;
  for (const Segment& segment : *segments) {
    if (!shown.empty()) shown += '|';
    shown += segment.id ? fmt::format("[{}]", *segment.id)
                        : std::string(text.substr(segment.begin, segment.end - segment.begin));
  }
  return shown;
}

TEST_CASE("of several tokens that begin together the longest is taken") {
  const std::vector<AddedToken> tokens = {token(1, "<t"), token(2, "<tool>"), token(3, "<tool>x")};
  CHECK(split(tokens, "a<tool>b<t<tool>x") == "a|[2]|b|[1]|[3]");
  CHECK(split(tokens, "") == "");
}

TEST_CASE("a single_word token counts only where no word character touches it") {
  std::vector<AddedToken> tokens = {token(1, "New")};
  tokens[0].single_word = true;
  CHECK(split(tokens, "New Newer \xC3\xA9New New!") == "[1]| Newer \xC3\xA9New |[1]|!");
}

TEST_CASE("lstrip and rstrip take the white space along") {
  std::vector<AddedToken> tokens = {token(1, "<l>"), token(2, "<r>")};
  tokens[0].lstrip = true;
  tokens[1].rstrip = true;
  CHECK(split(tokens, "a \xC2\xA0<l> b <r>\n c") == "a|[1]| b |[2]|c");
  CHECK(split(tokens, "<r>  <l>") == "[2]|[1]");
}

TEST_CASE("an added token that contradicts the vocabulary is refused") {
  const auto refusal = [](std::string_view added) {
    return load_json(
               replaced(small_json(), R"({"id": 9, "content": "<s>", "special": true})", added))
        .status();
  };
  check_refusal(refusal(R"({"id": 5, "content": "<s>"})"), StatusCode::kCorrupt,
                {"added_tokens[0]", "id 5", "\"bc\"", "\"<s>\""});
  check_refusal(refusal(R"({"id": 5, "content": "ab"})"), StatusCode::kCorrupt,
                {"added_tokens[0]", "\"ab\" has the id 5 here and 4"});
  check_refusal(refusal(R"({"id": 9, "content": "<s>"}, {"id": 10, "content": "<s>"})"),
                StatusCode::kCorrupt, {"added_tokens[1]", "listed twice"});
  check_refusal(refusal(R"({"id": 9, "content": "<s>"}, {"id": 9, "content": "<t>"})"),
                StatusCode::kCorrupt, {"added_tokens[1]", "id 9", "\"<t>\""});
  check_refusal(refusal(R"({"id": 4000000000, "content": "<s>"})"), StatusCode::kCorrupt,
                {"added_tokens[0].id", "4000000000", "out of range"});
  check_refusal(refusal(R"({"id": -1, "content": "<s>"})"), StatusCode::kCorrupt, {"-1"});
  check_refusal(refusal(R"({"id": 9, "content": ""})"), StatusCode::kCorrupt, {"empty"});
  check_refusal(refusal(R"({"id": 9})"), StatusCode::kCorrupt, {"\"content\" is missing"});
  check_refusal(refusal(R"({"id": "9", "content": "x"})"), StatusCode::kCorrupt,
                {"expected an integer, got string"});
  check_refusal(refusal(R"({"id": 9, "content": "x", "lstrip": 1})"), StatusCode::kCorrupt,
                {"added_tokens[0].lstrip", "expected true or false"});
}

}  // namespace
}  // namespace abq::tokenizer
