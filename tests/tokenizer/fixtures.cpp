#include "tests/tokenizer/fixtures.h"

#include "support/mapped_file.h"
#include "tokenizer/utf8.h"

namespace abq::tokenizer {

std::string read_data_file(std::string_view name) {
  Result<std::string> bytes = read_text_file(fmt::format("{}/{}", ABQ_TEST_DATA_DIR, name));
  REQUIRE_MESSAGE(bytes.ok(), bytes.status().to_string());
  return *std::move(bytes);
}

std::unique_ptr<Tokenizer> load_data(std::string_view name) {
  const Kind kind = name.ends_with(".json") ? Kind::kHuggingFaceJson : Kind::kSentencePiece;
  Result<std::unique_ptr<Tokenizer>> tokenizer = load_tokenizer(kind, read_data_file(name), name);
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().to_string());
  return std::move(tokenizer).value();
}

std::string small_json() {
  return R"({"added_tokens": [{"id": 9, "content": "<s>", "special": true}],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [9], "tokens": ["<s>"]}}},
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "dropout": null, "unk_token": null,
    "vocab": {"a": 0, "b": 1, "c": 2, "Ġ": 3, "ab": 4, "bc": 5, "abc": 6, "Ġa": 7, "aa": 8},
    "merges": [["a", "b"], "b c", ["ab", "c"], "Ġ a", "a a"]}})";
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

Result<std::unique_ptr<Tokenizer>> load_json(std::string bytes) {
  return load_tokenizer(Kind::kHuggingFaceJson, std::move(bytes), "tokenizer.json");
}

void check_refusal(const Status& status, StatusCode code, std::vector<std::string_view> parts) {
  REQUIRE(!status.ok());
  CAPTURE(status.message());
  CHECK(status_code_name(status.code()) == status_code_name(code));
  for (std::string_view part : parts) {
    CAPTURE(part);
    CHECK(status.message().find(part) != std::string::npos);
  }
}

std::vector<int32_t> ids_of(const Tokenizer& tokenizer, std::string_view text,
                            SpecialTokens special) {
  Result<std::vector<int32_t>> ids = tokenizer.encode(text, special);
  REQUIRE_MESSAGE(ids.ok(), ids.status().to_string());
  return *std::move(ids);
}

std::string text_of(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  Result<std::string> text = tokenizer.decode(ids);
  REQUIRE_MESSAGE(text.ok(), text.status().to_string());
  return *std::move(text);
}

std::string streamed_text(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamingDecoder decoder(tokenizer);
  std::string text;
  for (int32_t id : ids) {
    Result<std::string> piece = decoder.push(id);
    REQUIRE_MESSAGE(piece.ok(), piece.status().to_string());
    CHECK(check_utf8(*piece).ok());
    text += *piece;
  }
  Result<std::string> rest = decoder.finish();
  REQUIRE_MESSAGE(rest.ok(), rest.status().to_string());
  CHECK(check_utf8(*rest).ok());
  return text + *rest;
}

}  // namespace abq::tokenizer
