#include "tokenizer/split.h"

#include <doctest/doctest.h>

namespace abq::tokenizer {
namespace {

std::vector<std::string> split(std::string_view text, SplitBehavior behavior, bool invert = false) {
  Result<Regex> regex = Regex::literal("-");
  REQUIRE(regex.ok());
  Words words;
  words.text = text;
  words.ranges = {{0, text.size()}};
  REQUIRE(Split(*std::move(regex), behavior, invert).apply(words).ok());
  std::vector<std::string> result;
  for (size_t i = 0; i < words.ranges.size(); ++i)
    result.emplace_back(words.word(i));
  return result;
}
using List = std::vector<std::string>;

// The example of the `tokenizers` documentation.
constexpr std::string_view kText = "the-final--countdown";

TEST_CASE("each behaviour puts the separators where it says") {
  CHECK(split(kText, SplitBehavior::kRemoved) == List{"the", "final", "countdown"});
  CHECK(split(kText, SplitBehavior::kIsolated) == List{"the", "-", "final", "-", "-", "countdown"});
  CHECK(split(kText, SplitBehavior::kMergedWithPrevious) ==
        List{"the-", "final-", "-", "countdown"});
  CHECK(split(kText, SplitBehavior::kMergedWithNext) == List{"the", "-final", "-", "-countdown"});
  CHECK(split(kText, SplitBehavior::kContiguous) == List{"the", "-", "final", "--", "countdown"});
}

TEST_CASE("separators at both ends stand alone or are joined inwards") {
  CHECK(split("-a-", SplitBehavior::kMergedWithPrevious) == List{"-", "a-"});
  CHECK(split("-a-", SplitBehavior::kMergedWithNext) == List{"-a", "-"});
  CHECK(split("-", SplitBehavior::kRemoved).empty());
}

TEST_CASE("an inverted split keeps what matches") {
  CHECK(split(kText, SplitBehavior::kRemoved, true) == List{"-", "-", "-"});
}

}  // namespace
}  // namespace abq::tokenizer
