#include "tokenizer/regex.h"

#include <doctest/doctest.h>

namespace abq::tokenizer {
namespace {

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  Result<Regex> regex = Regex::compile(pattern);
  REQUIRE_MESSAGE(regex.ok(), regex.status().to_string());
  Result<std::vector<Match>> found = regex->find_all(text);
  REQUIRE_MESSAGE(found.ok(), found.status().to_string());
  std::vector<std::string> words;
  for (const Match& match : *found) {
    words.emplace_back(text.substr(match.begin, match.end - match.begin));
  }
  return words;
}
using Words = std::vector<std::string>;

TEST_CASE("Unicode classes and inline flags mean what tokenizer.json files expect") {
  CHECK(matches("(?i:'s|'ll)", "it's WE'LL") == Words{"'s", "'LL"});
  CHECK(matches("\\p{L}+", "na\xC3\xAFve \xE6\x97\xA5\xE6\x9C\xAC 12") ==
        Words{"na\xC3\xAFve", "\xE6\x97\xA5\xE6\x9C\xAC"});
  CHECK(matches("\\p{N}{1,3}", "1234567") == Words{"123", "456", "7"});
  CHECK(matches("\\s+(?!\\S)", "a   b  ") == Words{"  ", "  "});
}

TEST_CASE("white space is Unicode's, inside a class and outside") {
  // U+0085 is white space; U+180E was, until Unicode 6.3.
  CHECK(matches("\\s", "a\xC2\x85 b\xE1\xA0\x8E") == Words{"\xC2\x85", " "});
  CHECK(matches("[^\\s]+", "a\xC2\x85 b\xE1\xA0\x8E") == Words{"a", "b\xE1\xA0\x8E"});
  CHECK(matches("[\\S]+", "a\xC2\x85z") == Words{"a", "z"});
}

TEST_CASE("word characters include marks and connectors") {
  CHECK(matches("\\w+", "e\xCC\x81_\xE2\x80\xBF x") == Words{"e\xCC\x81_\xE2\x80\xBF", "x"});
  CHECK(matches("\\W", "a-b") == Words{"-"});
}

TEST_CASE("anchors match at every line") {
  CHECK(matches("^\\w", "a\nb\nc") == Words{"a", "b", "c"});
}

TEST_CASE("an empty match is reported once and the search goes on") {
  CHECK(matches("x*", "a\xC3\xA9x") == Words{"", "", "x"});
}

TEST_CASE("a literal has no special characters") {
  Result<Regex> regex = Regex::literal(".*");
  REQUIRE(regex.ok());
  Result<std::string> text = replace_all(*regex, "a.*b.*", "\\0$1");
  REQUIRE(text.ok());
  CHECK(*text == "a\\0$1b\\0$1");
}

TEST_CASE("a pattern that does not compile is refused with the place") {
  const Status status = Regex::compile("a(b").status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("a(b") != std::string::npos);
  CHECK(status.message().find("offset 3") != std::string::npos);
  CHECK(Regex::literal("").status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("class intersections, nested classes and negated words in a class are refused") {
  for (std::string_view pattern : {"[a-z&&[^b]]", "[a[b]]", "[\\W]"}) {
    CHECK(Regex::compile(pattern).status().code() == StatusCode::kUnsupported);
  }
}

TEST_CASE("a pattern that could stop inside a character is refused") {
  for (const char* pattern : {"\\C", "a\\C+?", "(?=a\\K)"}) {
    CAPTURE(pattern);
    const Status status = Regex::compile(pattern).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message().find(pattern) != std::string::npos);
  }
}

TEST_CASE("catastrophic backtracking ends with an error, not a hang") {
  Result<Regex> regex = Regex::compile("(a+)+$");
  REQUIRE(regex.ok());
  CHECK(regex->find_all(std::string(64, 'a') + "b").status().code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("a million spaces are matched in one piece") {
  CHECK(matches("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", std::string(1000000, ' ')).size() == 1);
}

}  // namespace
}  // namespace abq::tokenizer
