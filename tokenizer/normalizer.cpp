#include "tokenizer/normalizer.h"

#include "tokenizer/regex.h"

namespace abq::tokenizer {
namespace {

class Prepend : public NormalizerStep {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  Result<std::string> apply(std::string text) const override {
    return text.empty() ? text : prefix_ + text;
  }

 private:
  std::string prefix_;
};

class Replace : public NormalizerStep {
 public:
  Replace(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Result<std::string> apply(std::string text) const override {
    return replace_all(pattern_, text, content_);
  }

 private:
  Regex pattern_;
  std::string content_;
};

}  // namespace

Result<Normalizer> Normalizer::from_json(const JsonNode& node) {
  Normalizer normalizer;
  ABQ_RETURN_IF_ERROR(normalizer.append(node, 0));
  return normalizer;
}

Status Normalizer::append(const JsonNode& node, int depth) {
  ABQ_ASSIGN_OR_RETURN(const std::string type, node.string_member("type"));
  if (type == "Sequence") {
    if (depth == kMaxSequenceDepth) return corrupt("{}: Sequence nested too deeply", node.path());
    ABQ_ASSIGN_OR_RETURN(const JsonNode list, node.member("normalizers"));
    ABQ_ASSIGN_OR_RETURN(const std::vector<JsonNode> parts, list.as_array());
    for (const JsonNode& part : parts)
      ABQ_RETURN_IF_ERROR(append(part, depth + 1));
    return {};
  }
  if (type == "Prepend") {
    ABQ_ASSIGN_OR_RETURN(std::string prefix, node.string_member("prepend"));
    steps_.push_back(std::make_unique<Prepend>(std::move(prefix)));
    return {};
  }
  if (type == "Replace") {
    ABQ_ASSIGN_OR_RETURN(Regex pattern, pattern_member(node));
    ABQ_ASSIGN_OR_RETURN(std::string content, node.string_member("content"));
    steps_.push_back(std::make_unique<Replace>(std::move(pattern), std::move(content)));
    return {};
  }
  return unsupported(
      "{}: normalizer {} is not supported; this build has Sequence, Prepend and Replace",
      node.path(), type);
}

Result<std::string> Normalizer::apply(std::string text) const {
  const size_t given = text.size();
  const size_t limit = max_rewritten_size(text);
  for (const auto& step : steps_) {
    Result<std::string> next = step->apply(std::move(text));
    if (!next.ok()) return next.status();
    text = std::move(next).value();
    if (text.size() > limit) {
      return invalid_argument("normalizer: {} bytes became {}, more than the {} that are allowed",
                              given, text.size(), limit);
    }
  }
  return text;
}

}  // namespace abq::tokenizer
