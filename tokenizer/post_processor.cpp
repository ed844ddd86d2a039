#include "tokenizer/post_processor.h"

namespace abq::tokenizer {
namespace {

// The ids that the template's special token `piece` stands for.
Result<std::vector<int32_t>> special_ids(const JsonNode& node, const JsonNode& piece,
                                         int64_t vocab_size) {
  ABQ_ASSIGN_OR_RETURN(const std::string name, piece.string_member("id"));
  ABQ_ASSIGN_OR_RETURN(const JsonNode tokens, node.member("special_tokens"));
  ABQ_ASSIGN_OR_RETURN(const JsonNode token, tokens.member(name));
  ABQ_ASSIGN_OR_RETURN(const JsonNode list, token.member("ids"));
  ABQ_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, list.as_array());
  std::vector<int32_t> ids;
  for (const JsonNode& element : elements) {
    ABQ_ASSIGN_OR_RETURN(const int64_t id, element.as_integer());
    if (id < 0 || id >= vocab_size) {
      return corrupt("{}: the id {} is outside the vocabulary of {}", element.path(), id,
                     vocab_size);
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

}  // namespace

Result<PostProcessor> PostProcessor::from_json(const JsonNode& node, int64_t vocab_size) {
  PostProcessor processor;
  ABQ_RETURN_IF_ERROR(processor.append(node, vocab_size, 0));
  return processor;
}

Status PostProcessor::append(const JsonNode& node, int64_t vocab_size, int depth) {
  ABQ_ASSIGN_OR_RETURN(const std::string type, node.string_member("type"));
  if (type == "Sequence") {
    if (depth == kMaxSequenceDepth) return corrupt("{}: Sequence nested too deeply", node.path());
    ABQ_ASSIGN_OR_RETURN(const JsonNode list, node.member("processors"));
    ABQ_ASSIGN_OR_RETURN(const std::vector<JsonNode> parts, list.as_array());
    for (const JsonNode& part : parts)
      ABQ_RETURN_IF_ERROR(append(part, vocab_size, depth + 1));
    return {};
  }
  if (type == "TemplateProcessing") return append_template(node, vocab_size);
  if (type == "ByteLevel") return {};
  return unsupported(
      "{}: post-processor {} is not supported; this build has TemplateProcessing, ByteLevel and "
      "Sequence",
      node.path(), type);
}

Status PostProcessor::append_template(const JsonNode& node, int64_t vocab_size) {
  ABQ_ASSIGN_OR_RETURN(const JsonNode single, node.member("single"));
  ABQ_ASSIGN_OR_RETURN(const std::vector<JsonNode> pieces, single.as_array());
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  bool text_seen = false;
  for (const JsonNode& piece : pieces) {
    if (piece.find("Sequence")) {
      if (text_seen) return corrupt("{}: the text stands in the template twice", piece.path());
      text_seen = true;
      continue;
    }
    ABQ_ASSIGN_OR_RETURN(const JsonNode special, piece.member("SpecialToken"));
    ABQ_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, special_ids(node, special, vocab_size));
    std::vector<int32_t>& side = text_seen ? after : before;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (!text_seen) return corrupt("{}: the text has no place in the template", single.path());
  // A later processor wraps what the earlier ones made.
  before_.insert(before_.begin(), before.begin(), before.end());
  after_.insert(after_.end(), after.begin(), after.end());
  return {};
}

std::vector<int32_t> PostProcessor::apply(std::vector<int32_t> ids) const {
  ids.insert(ids.begin(), before_.begin(), before_.end());
  ids.insert(ids.end(), after_.begin(), after_.end());
  return ids;
}

}  // namespace abq::tokenizer
