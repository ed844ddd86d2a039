// The "pre_tokenizer" of a tokenizer.json: cuts the text into the words that BPE works on.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "support/status.h"
#include "tokenizer/json_fields.h"

namespace abq::tokenizer {

// Consecutive words of one text; none is empty.
struct Words {
  struct Range {
    size_t begin;  // bytes of `text`
    size_t end;
  };
  std::string text;
  std::vector<Range> ranges;
  // Whether the first word begins where the whole input begins (no added token came before it).
  bool at_input_start = false;

  std::string_view word(size_t i) const {
    return std::string_view(text).substr(ranges[i].begin, ranges[i].end - ranges[i].begin);
  }
};

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual Status apply(Words& words) const = 0;
};

class PreTokenizer {
 public:
  // Sequence, Split, ByteLevel, Metaspace, Digits, Whitespace, WhitespaceSplit; Unsupported names
  // any other type.
  static Result<PreTokenizer> from_json(const JsonNode& node);

  // Without steps, the whole text is one word. `text` is valid UTF-8.
  Result<Words> apply(std::string text, bool at_input_start) const;

 private:
  Status append(const JsonNode& node, int depth);

  std::vector<std::unique_ptr<const PreTokenizerStep>> steps_;
};

}  // namespace abq::tokenizer
