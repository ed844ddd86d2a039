#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <set>

#include "tokenizer/utf8.h"

namespace abq::tokenizer {
namespace {

Result<AddedToken> added_token_from_json(const JsonNode& node) {
  AddedToken token;
  ABQ_RETURN_IF_ERROR(node.expect_object());
  ABQ_ASSIGN_OR_RETURN(const JsonNode id_node, node.member("id"));
  ABQ_ASSIGN_OR_RETURN(const int64_t id, id_node.as_integer());
  if (id < 0 || id >= kMaxVocabSize) {
    return corrupt("{}: {} is out of range; expected 0 to {}", id_node.path(), id,
                   kMaxVocabSize - 1);
  }
  token.id = static_cast<int32_t>(id);
  ABQ_ASSIGN_OR_RETURN(token.content, node.string_member("content"));
  if (token.content.empty()) return corrupt("{}.content: the token is empty", node.path());
  ABQ_ASSIGN_OR_RETURN(token.single_word, node.bool_or("single_word", false));
  ABQ_ASSIGN_OR_RETURN(token.lstrip, node.bool_or("lstrip", false));
  ABQ_ASSIGN_OR_RETURN(token.rstrip, node.bool_or("rstrip", false));
  ABQ_ASSIGN_OR_RETURN(token.special, node.bool_or("special", false));
  ABQ_ASSIGN_OR_RETURN(token.normalized, node.bool_or("normalized", !token.special));
  return token;
}

// The character that ends at the end of `text`, which is valid UTF-8 and not empty.
std::string_view last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80)
    --begin;
  return text.substr(begin);
}

std::string_view first_character(std::string_view text) {
  return text.substr(0, utf8_size(text));
}

Result<bool> is_one(const Regex& character_class, std::string_view character) {
  ABQ_ASSIGN_OR_RETURN(const std::vector<Match> matches, character_class.find_all(character));
  return !matches.empty();
}

}  // namespace

Result<std::vector<AddedToken>> added_tokens_from_json(const JsonNode& node,
                                                       const Vocabulary& vocabulary) {
  ABQ_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, node.as_array());
  std::unordered_map<int32_t, std::string_view> owners;
  for (const auto& [token, id] : vocabulary)
    owners.emplace(id, token);
  std::set<std::string> contents;
  std::vector<AddedToken> tokens;
  tokens.reserve(elements.size());  // owners refers to their text
  for (const JsonNode& element : elements) {
    ABQ_ASSIGN_OR_RETURN(AddedToken token, added_token_from_json(element));
    const auto known = vocabulary.find(token.content);
    if (known != vocabulary.end() && known->second != token.id) {
      return corrupt("{}: \"{}\" has the id {} here and {} in model.vocab", element.path(),
                     token.content, token.id, known->second);
    }
    if (!contents.insert(token.content).second) {
      return corrupt("{}: \"{}\" is listed twice", element.path(), token.content);
    }
    tokens.push_back(std::move(token));
    const auto [owner, free] = owners.emplace(tokens.back().id, tokens.back().content);
    if (!free && owner->second != tokens.back().content) {
      return corrupt("{}: the id {} belongs to both \"{}\" and \"{}\"", element.path(),
                     tokens.back().id, owner->second, tokens.back().content);
    }
  }
  return tokens;
}

Result<AddedTokenFinder> AddedTokenFinder::create(const std::vector<AddedToken>& tokens,
                                                  bool normalized, const Normalizer& normalizer) {
  ABQ_ASSIGN_OR_RETURN(Regex word,
                       Regex::compile("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]"));
  ABQ_ASSIGN_OR_RETURN(Regex space, Regex::compile("\\s"));
  AddedTokenFinder finder(std::move(word), std::move(space));
  for (const AddedToken& token : tokens) {
    if (token.normalized != normalized) continue;
    std::string pattern = token.content;
    if (normalized) {
      Result<std::string> result = normalizer.apply(std::move(pattern));
      if (!result.ok()) return result.status();
      pattern = std::move(result).value();
    }
    if (pattern.empty()) continue;
    finder.sizes_[static_cast<uint8_t>(pattern[0])].push_back(pattern.size());
    finder.tokens_.emplace(std::move(pattern), token);
  }
  for (std::vector<size_t>& sizes : finder.sizes_) {
    std::sort(sizes.begin(), sizes.end(), std::greater<>());
    sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  }
  return finder;
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view text, size_t begin,
                                               size_t* size) const {
  for (size_t candidate : sizes_[static_cast<uint8_t>(text[begin])]) {
    if (candidate > text.size() - begin) continue;
    const auto found = tokens_.find(text.substr(begin, candidate));
    if (found == tokens_.end()) continue;
    *size = candidate;
    return &found->second;
  }
  return nullptr;
}

Result<bool> AddedTokenFinder::accept(std::string_view text, const AddedToken& token,
                                      Segment* segment) const {
  std::string_view before = text.substr(0, segment->begin);
  std::string_view after = text.substr(segment->end);
  if (token.single_word) {
    for (std::string_view side : {before.empty() ? before : last_character(before),
                                  after.empty() ? after : first_character(after)}) {
      ABQ_ASSIGN_OR_RETURN(const bool touches, is_one(word_, side));
      if (touches) return false;
    }
  }
  while (token.lstrip && !before.empty()) {
    ABQ_ASSIGN_OR_RETURN(const bool space, is_one(space_, last_character(before)));
    if (!space) break;
    before.remove_suffix(last_character(before).size());
  }
  while (token.rstrip && !after.empty()) {
    ABQ_ASSIGN_OR_RETURN(const bool space, is_one(space_, first_character(after)));
    if (!space) break;
    after.remove_prefix(first_character(after).size());
  }
  segment->begin = before.size();
  segment->end = text.size() - after.size();
  return true;
}

Result<std::vector<Segment>> AddedTokenFinder::split(std::string_view text) const {
  std::vector<Segment> segments;
  size_t done = 0;
  if (!tokens_.empty()) {
    for (size_t i = 0; i < text.size();) {
      size_t size = 0;
      const AddedToken* token = longest_at(text, i, &size);
      if (token == nullptr) {
        ++i;
        continue;
      }
      Segment segment{token->id, i, i + size};
      i += size;
      ABQ_ASSIGN_OR_RETURN(const bool accepted, accept(text, *token, &segment));
      if (!accepted) continue;
      // White space that the token before took along is gone.
      segment.begin = std::max(segment.begin, done);
      if (done < segment.begin) segments.push_back({std::nullopt, done, segment.begin});
      done = segment.end;
      i = std::max(i, done);
      segments.push_back(segment);
    }
  }
  if (done < text.size()) segments.push_back({std::nullopt, done, text.size()});
  return segments;
}

}  // namespace abq::tokenizer
