#include "tokenizer/bpe_model.h"

#include <queue>
#include <tuple>

#include "tokenizer/utf8.h"

namespace abq::tokenizer {
namespace {

// The word's tokens as a doubly linked list over an array, so that a merge is O(1).
struct Symbol {
  int32_t id;  // kGone once merged into its left neighbour
  int32_t previous;
  int32_t next;
};
constexpr int32_t kGone = -1;
constexpr int32_t kNone = -1;

struct Candidate {
  int32_t rank;
  int32_t position;  // of the left symbol
  int32_t merged_id;
};
struct ComesLater {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return std::tie(a.rank, a.position) > std::tie(b.rank, b.position);
  }
};

std::vector<Symbol> link(const std::vector<int32_t>& ids) {
  std::vector<Symbol> symbols;
  symbols.reserve(ids.size());
  const auto count = static_cast<int32_t>(ids.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols.push_back({ids[i], i - 1, i + 1 < count ? i + 1 : kNone});
  }
  return symbols;
}

}  // namespace

BpeModel::BpeModel(Vocabulary vocabulary, Merges merges, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), merges_(std::move(merges)), options_(options) {
  for (int byte = 0; byte < 256; ++byte)
    byte_ids_[byte] = find(fmt::format("<0x{:02X}>", byte));
}

std::optional<int32_t> BpeModel::find(std::string_view token) const {
  const auto found = vocabulary_.find(token);
  if (found == vocabulary_.end()) return std::nullopt;
  return found->second;
}

const Merge* BpeModel::find_merge(int32_t left, int32_t right) const {
  const auto found = merges_.find(merge_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

bool BpeModel::append_bytes(std::string_view character, std::vector<int32_t>& ids) const {
  for (char c : character) {
    if (!byte_ids_[static_cast<uint8_t>(c)]) return false;
  }
  for (char c : character)
    ids.push_back(*byte_ids_[static_cast<uint8_t>(c)]);
  return true;
}

std::vector<int32_t> BpeModel::characters(std::string_view word) const {
  std::vector<int32_t> ids;
  ids.reserve(word.size());
  // An unknown waits until a known character follows (and not until bytes do): the order that the
  // `tokenizers` package gives.
  bool unk_waits = false;
  while (!word.empty()) {
    const std::string_view character = word.substr(0, utf8_size(word));
    word.remove_prefix(character.size());
    if (const std::optional<int32_t> id = find(character)) {
      if (unk_waits) ids.push_back(*options_.unk_id);
      unk_waits = false;
      ids.push_back(*id);
    } else if (options_.byte_fallback && append_bytes(character, ids)) {
      continue;
    } else if (options_.unk_id) {
      if (unk_waits && !options_.fuse_unk) ids.push_back(*options_.unk_id);
      unk_waits = true;
    }
  }
  if (unk_waits) ids.push_back(*options_.unk_id);
  return ids;
}

void BpeModel::encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (options_.ignore_merges) {
    if (const std::optional<int32_t> id = find(word)) {
      ids.push_back(*id);
      return;
    }
  }
  std::vector<Symbol> symbols = link(characters(word));
  std::priority_queue<Candidate, std::vector<Candidate>, ComesLater> queue;
  const auto offer = [&](int32_t left) {
    if (left == kNone || symbols[left].next == kNone) return;
    const Merge* merge = find_merge(symbols[left].id, symbols[symbols[left].next].id);
    if (merge != nullptr) queue.push({merge->rank, left, merge->id});
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i)
    offer(static_cast<int32_t>(i));

  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[top.position];
    if (left.id == kGone || left.next == kNone) continue;
    Symbol& right = symbols[left.next];
    // One of the two may have been merged since the offer.
    const Merge* merge = find_merge(left.id, right.id);
    if (merge == nullptr || merge->id != top.merged_id) continue;
    left.id = top.merged_id;
    left.next = right.next;
    right.id = kGone;
    if (left.next != kNone) symbols[left.next].previous = top.position;
    offer(left.previous);
    offer(top.position);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.id != kGone) ids.push_back(symbol.id);
  }
}

}  // namespace abq::tokenizer
