// Ids and texts that the `tokenizers` package and the sentencepiece library give
// (scripts/check_tokenizer.py).
#include <nlohmann/json.hpp>

#include "tests/tokenizer/fixtures.h"

namespace abq::tokenizer {
namespace {

void check_golden(std::string_view name) {
  const auto golden = nlohmann::json::parse(read_data_file("tokenizers/golden.json"));
  const auto& entry = golden.at(std::string(name));
  const std::unique_ptr<Tokenizer> tokenizer = load_data(name);
  REQUIRE(entry["cases"].size() > 40);
  for (const auto& example : entry["cases"]) {
    const auto text = example["text"].get<std::string>();
    const auto ids = example["ids"].get<std::vector<int32_t>>();
    const std::string decoded = example.value("decoded", text);
    CAPTURE(text);
    CHECK(ids_of(*tokenizer, text) == ids);
    CHECK(text_of(*tokenizer, ids) == decoded);
    CHECK(streamed_text(*tokenizer, ids) == decoded);
  }
  CHECK(ids_of(*tokenizer, entry["cases"][0]["text"].get<std::string>(), SpecialTokens::kAdd) ==
        entry["with_special"].get<std::vector<int32_t>>());
}

TEST_CASE("a Llama-3 style tokenizer gives the ids and texts of the tokenizers package") {
  check_golden("tiny-llama/tokenizer.json");
}

TEST_CASE("a GPT-2 style tokenizer gives the ids and texts of the tokenizers package") {
  check_golden("tokenizers/gpt2-style.json");
}

TEST_CASE("a Llama-2 style tokenizer.json gives the ids and texts of the tokenizers package") {
  check_golden("tokenizers/llama2-style.json");
}

TEST_CASE("Metaspace with prepend_scheme first gives the ids and texts of the tokenizers package") {
  check_golden("tokenizers/metaspace-first.json");
}

TEST_CASE("added tokens of every kind give the ids and texts of the tokenizers package") {
  check_golden("tokenizers/added-tokens.json");
}

TEST_CASE("a tokenizer.model gives the ids and texts of the sentencepiece library") {
  check_golden("tokenizers/llama2-style.model");
}

}  // namespace
}  // namespace abq::tokenizer
