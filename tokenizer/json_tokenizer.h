// Tokenizer from a Hugging Face tokenizer.json.
#pragma once

#include <memory>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace abq::tokenizer {

// `name` is the subject of errors. Corrupt for what contradicts the format, Unsupported for
// components that this build does not have.
Result<std::unique_ptr<Tokenizer>> load_json_tokenizer(std::string_view bytes,
                                                       std::string_view name);

}  // namespace abq::tokenizer
