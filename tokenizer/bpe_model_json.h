// The "model" of a tokenizer.json.
#pragma once

#include "support/status.h"
#include "tokenizer/bpe_model.h"
#include "tokenizer/json_fields.h"

namespace abq::tokenizer {

// Corrupt: an id that is negative, used twice or beyond kMaxVocabSize; a merge that is malformed or
// has a token outside the vocabulary. Unsupported: a model other than BPE, dropout, subword prefix
// or suffix.
Result<BpeModel> bpe_model_from_json(const JsonNode& node);

}  // namespace abq::tokenizer
