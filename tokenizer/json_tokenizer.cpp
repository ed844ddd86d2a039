#include "tokenizer/json_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe_model_json.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/utf8.h"

namespace abq::tokenizer {
namespace {

// What an id stands for.
struct Entry {
  bool exists = false;
  bool special = false;
  std::string token;
};

struct Parts {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  std::vector<AddedToken> added;
  AddedTokenFinder raw_finder;
  AddedTokenFinder normalized_finder;
  std::vector<Entry> entries;  // by id
  PostProcessor post_processor;
  Decoder decoder;
};

class JsonTokenizer : public Tokenizer {
 public:
  explicit JsonTokenizer(Parts parts) : parts_(std::move(parts)) {
    for (const AddedToken& token : parts_.added)
      added_ids_.emplace(token.content, token.id);
  }

  Kind kind() const override { return Kind::kHuggingFaceJson; }
  int64_t vocab_size() const override { return static_cast<int64_t>(parts_.entries.size()); }
  Result<std::vector<int32_t>> encode(std::string_view text, SpecialTokens special) const override;
  std::optional<int32_t> token_to_id(std::string_view token) const override;
  bool is_special(int32_t id) const override {
    return id >= 0 && id < vocab_size() && parts_.entries[id].special;
  }
  std::unique_ptr<TextStream> new_stream() const override;

  const Entry* entry(int32_t id) const {
    const bool exists = id >= 0 && id < vocab_size() && parts_.entries[id].exists;
    return exists ? &parts_.entries[id] : nullptr;
  }
  const Decoder& decoder() const { return parts_.decoder; }

 private:
  Status encode_raw(std::string text, bool at_input_start, std::vector<int32_t>& ids) const;
  Status encode_normalized(std::string text, bool at_input_start, std::vector<int32_t>& ids) const;

  Parts parts_;
  Vocabulary added_ids_;
};

class JsonTextStream : public TextStream {
 public:
  explicit JsonTextStream(const JsonTokenizer& tokenizer)
      : tokenizer_(tokenizer), state_(tokenizer.decoder()) {}

  Result<std::string> push(int32_t id) override {
    const Entry* entry = tokenizer_.entry(id);
    if (entry == nullptr) {
      return not_found("token id {} is not in the vocabulary of {} ids", id,
                       tokenizer_.vocab_size());
    }
    if (entry->special) return std::string();
    return state_.push(entry->token);
  }
  Result<std::string> finish() override { return state_.finish(); }

 private:
  const JsonTokenizer& tokenizer_;
  DecoderState state_;
};

std::unique_ptr<TextStream> JsonTokenizer::new_stream() const {
  return std::make_unique<JsonTextStream>(*this);
}

std::optional<int32_t> JsonTokenizer::token_to_id(std::string_view token) const {
  const auto added = added_ids_.find(token);
  return added != added_ids_.end() ? added->second : parts_.model.find(token);
}

// Added tokens are looked for twice: in the text as it is, then in the normalized rest.
Result<std::vector<int32_t>> JsonTokenizer::encode(std::string_view text,
                                                   SpecialTokens special) const {
  ABQ_RETURN_IF_ERROR(check_utf8(text));
  std::vector<int32_t> ids;
  ABQ_ASSIGN_OR_RETURN(const std::vector<Segment> segments, parts_.raw_finder.split(text));
  for (const Segment& segment : segments) {
    if (segment.id) {
      ids.push_back(*segment.id);
      continue;
    }
    const std::string_view part = text.substr(segment.begin, segment.end - segment.begin);
    ABQ_RETURN_IF_ERROR(encode_raw(std::string(part), segment.begin == 0, ids));
  }
  return special == SpecialTokens::kAdd ? parts_.post_processor.apply(std::move(ids)) : ids;
}

Status JsonTokenizer::encode_raw(std::string text, bool at_input_start,
                                 std::vector<int32_t>& ids) const {
  ABQ_ASSIGN_OR_RETURN(const std::string normalized, parts_.normalizer.apply(std::move(text)));
  ABQ_ASSIGN_OR_RETURN(const std::vector<Segment> segments,
                       parts_.normalized_finder.split(normalized));
  for (const Segment& segment : segments) {
    if (segment.id) {
      ids.push_back(*segment.id);
      continue;
    }
    ABQ_RETURN_IF_ERROR(
        encode_normalized(normalized.substr(segment.begin, segment.end - segment.begin),
                          at_input_start && segment.begin == 0, ids));
  }
  return {};
}

Status JsonTokenizer::encode_normalized(std::string text, bool at_input_start,
                                        std::vector<int32_t>& ids) const {
  ABQ_ASSIGN_OR_RETURN(const Words words,
                       parts_.pre_tokenizer.apply(std::move(text), at_input_start));
  for (size_t i = 0; i < words.ranges.size(); ++i)
    parts_.model.encode(words.word(i), ids);
  return {};
}

Result<std::vector<Entry>> make_entries(const Vocabulary& vocabulary,
                                        const std::vector<AddedToken>& added,
                                        const Normalizer& normalizer) {
  int32_t largest = 0;
  for (const auto& [token, id] : vocabulary)
    largest = std::max(largest, id);
  for (const AddedToken& token : added)
    largest = std::max(largest, token.id);
  std::vector<Entry> entries(static_cast<size_t>(largest) + 1);
  for (const auto& [token, id] : vocabulary)
    entries[id] = {true, false, token};
  for (const AddedToken& token : added) {
    // What a normalized token was found as is also what the decoder must undo.
    std::string content = token.content;
    if (token.normalized) {
      Result<std::string> found_as = normalizer.apply(std::move(content));
      if (!found_as.ok()) return found_as.status();
      content = std::move(found_as).value();
    }
    entries[token.id] = {true, token.special, std::move(content)};
  }
  return entries;
}

// The component under `key`, default-constructed where the file has none.
template <class Component, class... Args>
Result<Component> component(const JsonNode& root, std::string_view key, const Args&... args) {
  const std::optional<JsonNode> node = root.find(key);
  return node ? Component::from_json(*node, args...) : Result<Component>(Component());
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> load_json_tokenizer(std::string_view bytes,
                                                       std::string_view name) {
  ABQ_ASSIGN_OR_RETURN(const nlohmann::json document, parse_json(bytes, name));
  const JsonNode root(document, fmt::format("{}: ", name));
  ABQ_ASSIGN_OR_RETURN(const JsonNode model_node, root.member("model"));
  ABQ_ASSIGN_OR_RETURN(BpeModel model, bpe_model_from_json(model_node));
  std::vector<AddedToken> added;
  if (const std::optional<JsonNode> node = root.find("added_tokens")) {
    ABQ_ASSIGN_OR_RETURN(added, added_tokens_from_json(*node, model.vocabulary()));
  }
  ABQ_ASSIGN_OR_RETURN(Normalizer normalizer, component<Normalizer>(root, "normalizer"));
  ABQ_ASSIGN_OR_RETURN(std::vector<Entry> entries,
                       make_entries(model.vocabulary(), added, normalizer));
  const auto vocab_size = static_cast<int64_t>(entries.size());
  ABQ_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, component<PreTokenizer>(root, "pre_tokenizer"));
  ABQ_ASSIGN_OR_RETURN(PostProcessor post_processor,
                       component<PostProcessor>(root, "post_processor", vocab_size));
  ABQ_ASSIGN_OR_RETURN(Decoder decoder, component<Decoder>(root, "decoder"));
  ABQ_ASSIGN_OR_RETURN(AddedTokenFinder raw_finder,
                       AddedTokenFinder::create(added, /*normalized=*/false, normalizer));
  ABQ_ASSIGN_OR_RETURN(AddedTokenFinder normalized_finder,
                       AddedTokenFinder::create(added, /*normalized=*/true, normalizer));
  return std::unique_ptr<Tokenizer>(std::make_unique<JsonTokenizer>(
      Parts{std::move(normalizer), std::move(pre_tokenizer), std::move(model), std::move(added),
            std::move(raw_finder), std::move(normalized_finder), std::move(entries),
            std::move(post_processor), std::move(decoder)}));
}

}  // namespace abq::tokenizer
