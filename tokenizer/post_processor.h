// The "post_processor" of a tokenizer.json, for a single text: the special tokens around it.
#pragma once

#include <cstdint>
#include <vector>

#include "support/status.h"
#include "tokenizer/json_fields.h"

namespace abq::tokenizer {

class PostProcessor {
 public:
  // TemplateProcessing, ByteLevel (which concerns offsets only) and Sequence of these; Unsupported
  // names any other type. Ids are below `vocab_size`.
  static Result<PostProcessor> from_json(const JsonNode& node, int64_t vocab_size);

  std::vector<int32_t> apply(std::vector<int32_t> ids) const;

 private:
  Status append(const JsonNode& node, int64_t vocab_size, int depth);
  Status append_template(const JsonNode& node, int64_t vocab_size);

  std::vector<int32_t> before_;
  std::vector<int32_t> after_;
};

}  // namespace abq::tokenizer
