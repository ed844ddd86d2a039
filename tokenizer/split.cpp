#include "tokenizer/split.h"

#include <algorithm>
#include <array>
#include <utility>

namespace abq::tokenizer {
namespace {

struct Part {
  size_t begin;
  size_t end;
  bool matched;
};

// The matches and what lies between them, covering [0, size) in order.
std::vector<Part> cover(const std::vector<Match>& matches, size_t size, bool invert) {
  std::vector<Part> parts;
  size_t done = 0;
  for (const Match& match : matches) {
    if (done < match.begin) parts.push_back({done, match.begin, invert});
    parts.push_back({match.begin, match.end, !invert});
    done = match.end;
  }
  if (done < size) parts.push_back({done, size, invert});
  return parts;
}

// Joins each match to the part before it, unless that is a match too.
std::vector<Part> merge_with_previous(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool previous_matched = false;
  for (const Part& part : parts) {
    if (part.matched && !previous_matched && !merged.empty()) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
    previous_matched = part.matched;
  }
  return merged;
}

std::vector<Part> merge_with_next(std::vector<Part> parts) {
  std::vector<Part> merged;
  bool next_matched = false;
  std::reverse(parts.begin(), parts.end());
  for (const Part& part : parts) {
    if (part.matched && !next_matched && !merged.empty()) {
      merged.back().begin = part.begin;
    } else {
      merged.push_back(part);
    }
    next_matched = part.matched;
  }
  std::reverse(merged.begin(), merged.end());
  return merged;
}

std::vector<Part> merge_alike(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  for (const Part& part : parts) {
    if (!merged.empty() && merged.back().matched == part.matched) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
  }
  return merged;
}

std::vector<Part> rearrange(std::vector<Part> parts, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kRemoved:
      std::erase_if(parts, [](const Part& part) { return part.matched; });
      break;
    case SplitBehavior::kMergedWithPrevious:
      return merge_with_previous(parts);
    case SplitBehavior::kMergedWithNext:
      return merge_with_next(std::move(parts));
    case SplitBehavior::kContiguous:
      return merge_alike(parts);
  }
  return parts;
}

}  // namespace

Result<SplitBehavior> split_behavior(const JsonNode& node) {
  constexpr std::array kNames = {
      std::pair{"Isolated", SplitBehavior::kIsolated},
      std::pair{"Removed", SplitBehavior::kRemoved},
      std::pair{"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      std::pair{"MergedWithNext", SplitBehavior::kMergedWithNext},
      std::pair{"Contiguous", SplitBehavior::kContiguous},
  };
  const Result<std::string> name = node.string_member("behavior");
  if (!name.ok()) return name.status();
  for (const auto& [known, behavior] : kNames) {
    if (*name == known) return behavior;
  }
  return corrupt(
      "{}.behavior: \"{}\" is none of Isolated, Removed, MergedWithPrevious, MergedWithNext, "
      "Contiguous",
      node.path(), *name);
}

Status Split::apply(Words& words) const {
  std::vector<Words::Range> ranges;
  for (size_t i = 0; i < words.ranges.size(); ++i) {
    const std::string_view word = words.word(i);
    ABQ_ASSIGN_OR_RETURN(const std::vector<Match> matches, pattern_.find_all(word));
    const size_t offset = words.ranges[i].begin;
    for (const Part& part : rearrange(cover(matches, word.size(), invert_), behavior_)) {
      if (part.begin < part.end) ranges.push_back({offset + part.begin, offset + part.end});
    }
  }
  const bool same_start =
      !ranges.empty() && !words.ranges.empty() && ranges[0].begin == words.ranges[0].begin;
  words.at_input_start = words.at_input_start && same_start;
  words.ranges = std::move(ranges);
  return {};
}

}  // namespace abq::tokenizer
