// Tokens that are found in the text itself, before normalizing, splitting and merging.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "support/status.h"
#include "tokenizer/bpe_model.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/regex.h"

namespace abq::tokenizer {

struct AddedToken {
  int32_t id;
  std::string content;
  bool single_word;  // only where no letter or digit touches it
  bool lstrip;       // takes the white space before it along
  bool rstrip;       // takes the white space after it along
  bool normalized;   // looked for in the normalized text
  bool special;      // left out when decoding
};

// The "added_tokens" member. Corrupt for an id that contradicts the vocabulary or is used twice.
Result<std::vector<AddedToken>> added_tokens_from_json(const JsonNode& node,
                                                       const Vocabulary& vocabulary);

// A part of the text: an added token, or text between them.
struct Segment {
  std::optional<int32_t> id;
  size_t begin;
  size_t end;
};

// Finds one set of added tokens: leftmost, of several the longest.
class AddedTokenFinder {
 public:
  // The tokens whose `normalized` is as given; the text of normalized ones is normalized first.
  static Result<AddedTokenFinder> create(const std::vector<AddedToken>& tokens, bool normalized,
                                         const Normalizer& normalizer);

  // Covers `text` (valid UTF-8) in order; text segments are not empty.
  Result<std::vector<Segment>> split(std::string_view text) const;

 private:
  AddedTokenFinder(Regex word, Regex space) : word_(std::move(word)), space_(std::move(space)) {}
  const AddedToken* longest_at(std::string_view text, size_t begin, size_t* size) const;
  // Whether `token` counts at [begin, end); if so, widens the range by the white space it takes.
  Result<bool> accept(std::string_view text, const AddedToken& token, Segment* segment) const;

  std::unordered_map<std::string, AddedToken, StringHash, std::equal_to<>> tokens_;
  std::array<std::vector<size_t>, 256> sizes_;  // by first byte: sizes of tokens, longest first
  Regex word_;                                  // a character of a word
  Regex space_;                                 // a white space character
};

}  // namespace abq::tokenizer
