// The "normalizer" of a tokenizer.json: rewrites the text before it is split.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "support/status.h"
#include "tokenizer/json_fields.h"

namespace abq::tokenizer {

class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  // `text` is valid UTF-8 and stays so.
  virtual Result<std::string> apply(std::string text) const = 0;
};

class Normalizer {
 public:
  // Prepend, Replace (text or regex) and Sequence of these; Unsupported names any other type (the
  // Unicode normal forms among them, whose tables this build does not carry).
  static Result<Normalizer> from_json(const JsonNode& node);

  Result<std::string> apply(std::string text) const;

 private:
  Status append(const JsonNode& node, int depth);

  std::vector<std::unique_ptr<const NormalizerStep>> steps_;
};

}  // namespace abq::tokenizer
