#include "tokenizer/pre_tokenizer.h"

#include "tokenizer/byte_level.h"
#include "tokenizer/regex.h"
#include "tokenizer/split.h"
#include "tokenizer/utf8.h"

namespace abq::tokenizer {
namespace {

// The words of GPT-2: contractions, letters, digits and other signs, each with one space before it.
constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Whitespace's words and other signs. Its word characters are those of the Unicode regular
// expression recommendation (UTS 18), not Oniguruma's.
constexpr std::string_view kWordsAndSigns =
    R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+)"
    R"(|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\s]+)";

// Rewrites every word; `rewrite(word, is_input_start)` gives its new text.
template <class Rewrite>
void rewrite_words(Words& words, Rewrite rewrite) {
  std::string text;
  text.reserve(words.text.size() + words.text.size() / 4);
  for (size_t i = 0; i < words.ranges.size(); ++i) {
    const size_t begin = text.size();
    rewrite(words.word(i), i == 0 && words.at_input_start, text);
    words.ranges[i] = {begin, text.size()};
  }
  words.text = std::move(text);
}

class AddPrefixSpace : public PreTokenizerStep {
 public:
  Status apply(Words& words) const override {
    rewrite_words(words, [](std::string_view word, bool, std::string& out) {
      if (!word.starts_with(' ')) out += ' ';
      out += word;
    });
    return {};
  }
};

class BytesToCharacters : public PreTokenizerStep {
 public:
  Status apply(Words& words) const override {
    const auto& characters = byte_level_characters();
    rewrite_words(words, [&characters](std::string_view word, bool, std::string& out) {
      for (char c : word)
        out += characters[static_cast<uint8_t>(c)];
    });
    return {};
  }
};

// Spaces become `replacement`, and one is put in front where `prepend` says so.
class MarkSpaces : public PreTokenizerStep {
 public:
  enum class Prepend { kAlways, kFirst, kNever };

  MarkSpaces(std::string replacement, Prepend prepend)
      : replacement_(std::move(replacement)), prepend_(prepend) {}

  Status apply(Words& words) const override {
    rewrite_words(words, [this](std::string_view word, bool at_start, std::string& out) {
      const bool wanted = prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && at_start);
      if (wanted && !word.starts_with(' ') && !word.starts_with(replacement_)) out += replacement_;
      for (char c : word) {
        if (c == ' ') {
          out += replacement_;
        } else {
          out += c;
        }
      }
    });
    return {};
  }

 private:
  std::string replacement_;
  Prepend prepend_;
};

using Steps = std::vector<std::unique_ptr<const PreTokenizerStep>>;

Status append_split(std::string_view pattern, SplitBehavior behavior, bool invert, Steps& steps) {
  ABQ_ASSIGN_OR_RETURN(Regex regex, Regex::compile(pattern));
  steps.push_back(std::make_unique<Split>(std::move(regex), behavior, invert));
  return {};
}

Status append_byte_level(const JsonNode& node, Steps& steps) {
  ABQ_ASSIGN_OR_RETURN(const bool add_prefix_space, node.bool_or("add_prefix_space", true));
  ABQ_ASSIGN_OR_RETURN(const bool use_regex, node.bool_or("use_regex", true));
  if (add_prefix_space) steps.push_back(std::make_unique<AddPrefixSpace>());
  if (use_regex) {
    ABQ_RETURN_IF_ERROR(append_split(kGpt2Words, SplitBehavior::kIsolated, false, steps));
  }
  steps.push_back(std::make_unique<BytesToCharacters>());
  return {};
}

Status append_metaspace(const JsonNode& node, Steps& steps) {
  ABQ_ASSIGN_OR_RETURN(const std::string replacement, node.string_member("replacement"));
  if (replacement.empty() || utf8_size(replacement) != replacement.size()) {
    return corrupt("{}.replacement: expected one character, got \"{}\"", node.path(), replacement);
  }
  // Older files have add_prefix_space in place of prepend_scheme.
  ABQ_ASSIGN_OR_RETURN(const bool add_prefix_space, node.bool_or("add_prefix_space", true));
  ABQ_ASSIGN_OR_RETURN(const std::string scheme,
                       node.string_or("prepend_scheme", add_prefix_space ? "always" : "never"));
  MarkSpaces::Prepend prepend;
  if (scheme == "always") {
    prepend = MarkSpaces::Prepend::kAlways;
  } else if (scheme == "first") {
    prepend = MarkSpaces::Prepend::kFirst;
  } else if (scheme == "never") {
    prepend = MarkSpaces::Prepend::kNever;
  } else {
    return corrupt("{}.prepend_scheme: \"{}\" is none of always, first, never", node.path(),
                   scheme);
  }
  steps.push_back(std::make_unique<MarkSpaces>(replacement, prepend));
  ABQ_ASSIGN_OR_RETURN(const bool split, node.bool_or("split", true));
  if (split) {
    ABQ_ASSIGN_OR_RETURN(Regex regex, Regex::literal(replacement));
    steps.push_back(
        std::make_unique<Split>(std::move(regex), SplitBehavior::kMergedWithNext, false));
  }
  return {};
}

Status append_pattern_split(const JsonNode& node, Steps& steps) {
  ABQ_ASSIGN_OR_RETURN(Regex pattern, pattern_member(node));
  ABQ_ASSIGN_OR_RETURN(const SplitBehavior behavior, split_behavior(node));
  ABQ_ASSIGN_OR_RETURN(const bool invert, node.bool_or("invert", false));
  steps.push_back(std::make_unique<Split>(std::move(pattern), behavior, invert));
  return {};
}

}  // namespace

Result<PreTokenizer> PreTokenizer::from_json(const JsonNode& node) {
  PreTokenizer pre_tokenizer;
  ABQ_RETURN_IF_ERROR(pre_tokenizer.append(node, 0));
  return pre_tokenizer;
}

Status PreTokenizer::append(const JsonNode& node, int depth) {
  ABQ_ASSIGN_OR_RETURN(const std::string type, node.string_member("type"));
  if (type == "Sequence") {
    if (depth == kMaxSequenceDepth) return corrupt("{}: Sequence nested too deeply", node.path());
    ABQ_ASSIGN_OR_RETURN(const JsonNode list, node.member("pretokenizers"));
    ABQ_ASSIGN_OR_RETURN(const std::vector<JsonNode> parts, list.as_array());
    for (const JsonNode& part : parts)
      ABQ_RETURN_IF_ERROR(append(part, depth + 1));
    return {};
  }
  if (type == "Split") return append_pattern_split(node, steps_);
  if (type == "ByteLevel") return append_byte_level(node, steps_);
  if (type == "Metaspace") return append_metaspace(node, steps_);
  if (type == "Digits") {
    ABQ_ASSIGN_OR_RETURN(const bool individual, node.bool_or("individual_digits", false));
    return append_split("\\p{N}",
                        individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false,
                        steps_);
  }
  if (type == "Whitespace") {
    return append_split(kWordsAndSigns, SplitBehavior::kRemoved, /*invert=*/true, steps_);
  }
  if (type == "WhitespaceSplit") {
    return append_split("\\s", SplitBehavior::kRemoved, false, steps_);
  }
  return unsupported(
      "{}: pre-tokenizer {} is not supported; this build has Sequence, Split, ByteLevel, "
      "Metaspace, Digits, Whitespace and WhitespaceSplit",
      node.path(), type);
}

Result<Words> PreTokenizer::apply(std::string text, bool at_input_start) const {
  Words words;
  words.text = std::move(text);
  words.at_input_start = at_input_start;
  if (!words.text.empty()) words.ranges.push_back({0, words.text.size()});
  for (const auto& step : steps_)
    ABQ_RETURN_IF_ERROR(step->apply(words));
  return words;
}

}  // namespace abq::tokenizer
