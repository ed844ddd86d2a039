// What the tokenizer tests share.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace abq::tokenizer {

std::string read_data_file(std::string_view name);  // below tests/data

// A file below tests/data; its ending tells the kind.
std::unique_ptr<Tokenizer> load_data(std::string_view name);

// A small byte-level tokenizer.json to change: the ASCII letters, "Ġ" and a few merges.
std::string small_json();
// `text` with `from` (which must occur) replaced by `to`.
std::string replaced(std::string text, std::string_view from, std::string_view to);

Result<std::unique_ptr<Tokenizer>> load_json(std::string bytes);

// The refusal of these bytes: its code and that its message contains each part.
void check_refusal(const Status& status, StatusCode code, std::vector<std::string_view> parts);

std::vector<int32_t> ids_of(const Tokenizer& tokenizer, std::string_view text,
                            SpecialTokens special = SpecialTokens::kOmit);
std::string text_of(const Tokenizer& tokenizer, const std::vector<int32_t>& ids);
std::string streamed_text(const Tokenizer& tokenizer, const std::vector<int32_t>& ids);

}  // namespace abq::tokenizer
