#include "tokenizer/decoder.h"

#include <charconv>
#include <optional>

#include "tokenizer/byte_level.h"
#include "tokenizer/regex.h"

namespace abq::tokenizer {
namespace {

class Replace : public DecoderStep {
 public:
  Replace(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Result<std::string> apply(std::string token, bool) const override {
    return replace_all(pattern_, token, content_);
  }

 private:
  Regex pattern_;
  std::string content_;
};

// Space marks become spaces; in the first token they vanish where encoding puts one in front.
class UnmarkSpaces : public DecoderStep {
 public:
  UnmarkSpaces(Regex mark, bool prepended) : mark_(std::move(mark)), prepended_(prepended) {}
  Result<std::string> apply(std::string token, bool is_first) const override {
    return replace_all(mark_, token, is_first && prepended_ ? "" : " ");
  }

 private:
  Regex mark_;
  bool prepended_;
};

Result<std::unique_ptr<const DecoderStep>> make_unmark_spaces(const JsonNode& node) {
  ABQ_ASSIGN_OR_RETURN(const std::string mark, node.string_member("replacement"));
  ABQ_ASSIGN_OR_RETURN(const bool add_prefix_space, node.bool_or("add_prefix_space", true));
  ABQ_ASSIGN_OR_RETURN(const std::string scheme,
                       node.string_or("prepend_scheme", add_prefix_space ? "always" : "never"));
  ABQ_ASSIGN_OR_RETURN(Regex regex, Regex::literal(mark));
  return std::unique_ptr<const DecoderStep>(
      std::make_unique<UnmarkSpaces>(std::move(regex), scheme != "never"));
}

// The byte that "<0x0A>" stands for.
std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  unsigned byte = 0;
  const char* end = token.data() + 5;
  const auto [stop, error] = std::from_chars(token.data() + 3, end, byte, 16);
  if (error != std::errc() || stop != end) return std::nullopt;
  return static_cast<char>(byte);
}

}  // namespace

Result<Decoder> Decoder::from_json(const JsonNode& node) {
  Decoder decoder;
  decoder.join_ = Join::kPlain;
  ABQ_RETURN_IF_ERROR(decoder.append(node, 0));
  return decoder;
}

Status Decoder::append(const JsonNode& node, int depth) {
  ABQ_ASSIGN_OR_RETURN(const std::string type, node.string_member("type"));
  if (type == "Sequence") {
    if (depth == kMaxSequenceDepth) return corrupt("{}: Sequence nested too deeply", node.path());
    ABQ_ASSIGN_OR_RETURN(const JsonNode list, node.member("decoders"));
    ABQ_ASSIGN_OR_RETURN(const std::vector<JsonNode> parts, list.as_array());
    for (const JsonNode& part : parts)
      ABQ_RETURN_IF_ERROR(append(part, depth + 1));
    return {};
  }
  if (type == "Strip") return append_strip(node);
  if (type == "Fuse") {
    fused_ = true;
    return {};
  }
  const bool known =
      type == "Replace" || type == "Metaspace" || type == "ByteFallback" || type == "ByteLevel";
  if (!known) {
    return unsupported(
        "{}: decoder {} is not supported; this build has Sequence, Replace, ByteFallback, Fuse, "
        "Strip, ByteLevel and Metaspace",
        node.path(), type);
  }
  if (fused_ || join_ != Join::kPlain) {
    return unsupported(
        "{}: decoder {} after ByteFallback, ByteLevel, Fuse or Strip is not "
        "supported; put it before them",
        node.path(), type);
  }
  if (type == "ByteFallback") {
    join_ = Join::kByteFallback;
  } else if (type == "ByteLevel") {
    join_ = Join::kByteLevel;
    fused_ = true;
  } else if (type == "Metaspace") {
    ABQ_ASSIGN_OR_RETURN(auto step, make_unmark_spaces(node));
    steps_.push_back(std::move(step));
  } else {
    ABQ_ASSIGN_OR_RETURN(Regex pattern, pattern_member(node));
    ABQ_ASSIGN_OR_RETURN(std::string content, node.string_member("content"));
    steps_.push_back(std::make_unique<Replace>(std::move(pattern), std::move(content)));
  }
  return {};
}

Status Decoder::append_strip(const JsonNode& node) {
  ABQ_ASSIGN_OR_RETURN(const std::string content, node.string_member("content"));
  ABQ_ASSIGN_OR_RETURN(const JsonNode start_node, node.member("start"));
  ABQ_ASSIGN_OR_RETURN(const int64_t start, start_node.as_integer());
  ABQ_ASSIGN_OR_RETURN(const JsonNode stop_node, node.member("stop"));
  ABQ_ASSIGN_OR_RETURN(const int64_t stop, stop_node.as_integer());
  if (content.empty() || utf8_size(content) != content.size()) {
    return corrupt("{}.content: expected one character, got \"{}\"", node.path(), content);
  }
  if (start < 0) return corrupt("{}: expected 0 or more, got {}", start_node.path(), start);
  if (stop != 0) {
    return unsupported("{}: {} is not supported; only 0 is, so that text can stream",
                       stop_node.path(), stop);
  }
  if (!fused_ || !strip_.empty()) {
    return unsupported("{}: decoder Strip is supported once, after Fuse or ByteLevel", node.path());
  }
  strip_ = content;
  strip_count_ = start;
  return {};
}

DecoderState::DecoderState(const Decoder& decoder)
    : decoder_(decoder),
      bytes_(decoder.join_ == Decoder::Join::kByteLevel ? Utf8Assembler::Replace::kSubpart
                                                        : Utf8Assembler::Replace::kByte),
      strip_left_(decoder.strip_count_) {}

Result<std::string> DecoderState::push(std::string_view token) {
  std::string text(token);
  for (const auto& step : decoder_.steps_) {
    Result<std::string> next = step->apply(std::move(text), is_first_);
    if (!next.ok()) return next.status();
    text = std::move(next).value();
  }
  std::string out;
  if (decoder_.join_ == Decoder::Join::kByteLevel) {
    bytes_.push(byte_level_bytes(text).value_or(text), out);
  } else if (const std::optional<char> byte = fallback_byte(text);
             byte && decoder_.join_ == Decoder::Join::kByteFallback) {
    bytes_.push({&*byte, 1}, out);
  } else {
    bytes_.flush(out);
    if (decoder_.join_ == Decoder::Join::kSpaced && !is_first_) out += ' ';
    out += text;
  }
  is_first_ = false;
  return strip(std::move(out));
}

std::string DecoderState::finish() {
  std::string out;
  bytes_.flush(out);
  return strip(std::move(out));
}

std::string DecoderState::strip(std::string text) {
  size_t begin = 0;
  while (strip_left_ > 0 && begin < text.size()) {
    if (text.compare(begin, decoder_.strip_.size(), decoder_.strip_) != 0) {
      strip_left_ = 0;
      break;
    }
    begin += decoder_.strip_.size();
    --strip_left_;
  }
  return text.substr(begin);
}

}  // namespace abq::tokenizer
