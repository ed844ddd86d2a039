// Byte-pair encoding: a word becomes its characters, then the neighbours whose pair has the lowest
// rank are merged, leftmost first, until no known pair is left.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "support/status.h"

namespace abq::tokenizer {

// Ids index tables, so that a damaged file must not make them huge.
inline constexpr int64_t kMaxVocabSize = int64_t{1} << 24;

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using Vocabulary = std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>;

struct Merge {
  int32_t rank;
  int32_t id;  // of the token that replaces the pair
};
// Key: merge_key(left id, right id).
using Merges = std::unordered_map<uint64_t, Merge>;
inline uint64_t merge_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

struct BpeOptions {
  std::optional<int32_t> unk_id;  // for characters outside the vocabulary; without it they vanish
  bool fuse_unk = false;          // one unk for consecutive unknown characters
  bool byte_fallback = false;  // an unknown character becomes its bytes' tokens <0x..> if all exist
  bool ignore_merges = false;  // a word that is itself a token becomes that token
};

class BpeModel {
 public:
  BpeModel(Vocabulary vocabulary, Merges merges, BpeOptions options);

  // Appends the ids of `word` (valid UTF-8). O(n log n) in its length.
  void encode(std::string_view word, std::vector<int32_t>& ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  std::optional<int32_t> find(std::string_view token) const;

 private:
  std::vector<int32_t> characters(std::string_view word) const;
  bool append_bytes(std::string_view character, std::vector<int32_t>& ids) const;
  const Merge* find_merge(int32_t left, int32_t right) const;

  Vocabulary vocabulary_;
  Merges merges_;
  BpeOptions options_;
  std::array<std::optional<int32_t>, 256> byte_ids_;  // of <0x00> .. <0xFF>
};

}  // namespace abq::tokenizer
