// Cutting words at the matches of a pattern.
#pragma once

#include <string_view>

#include "support/status.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/regex.h"

namespace abq::tokenizer {

// What becomes of the text that matched: a word of its own, dropped, joined to the word before or
// after it, or a word together with the matches that touch it.
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

Result<SplitBehavior> split_behavior(const JsonNode& node);

class Split : public PreTokenizerStep {
 public:
  // `invert`: what lies between the matches is taken for the matches.
  Split(Regex pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  Status apply(Words& words) const override;

 private:
  Regex pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

}  // namespace abq::tokenizer
