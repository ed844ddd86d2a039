#include "tokenizer/json_tokenizer.h"

#include <nlohmann/json.hpp>

#include "tests/tokenizer/fixtures.h"

namespace abq::tokenizer {
namespace {

using Ids = std::vector<int32_t>;

Status refusal(std::string_view from, std::string_view to) {
  return load_json(replaced(small_json(), from, to)).status();
}

TEST_CASE("merges are read from strings and from pairs") {
  Result<std::unique_ptr<Tokenizer>> loaded = load_json(small_json());
  REQUIRE_MESSAGE(loaded.ok(), loaded.status().to_string());
  const Tokenizer& tokenizer = **loaded;
  CHECK(tokenizer.kind() == Kind::kHuggingFaceJson);
  CHECK(tokenizer.vocab_size() == 10);
  CHECK(ids_of(tokenizer, "abc a") == Ids{6, 7});
  CHECK(ids_of(tokenizer, "abc a", SpecialTokens::kAdd) == Ids{9, 6, 7});
  CHECK(ids_of(tokenizer, "ab<s>c") == Ids{4, 9, 2});
  CHECK(ids_of(tokenizer, "", SpecialTokens::kAdd) == Ids{9});
  CHECK(tokenizer.token_to_id("<s>") == 9);
  CHECK(tokenizer.token_to_id("bc") == 5);
  CHECK(tokenizer.token_to_id("nothing") == std::nullopt);
  CHECK(tokenizer.is_special(9));
  CHECK(!tokenizer.is_special(6));
  CHECK(!tokenizer.is_special(-1));
  CHECK(!tokenizer.is_special(1000));
}

TEST_CASE("special tokens are left out of the text and unknown ids are refused") {
  Result<std::unique_ptr<Tokenizer>> tokenizer = load_json(small_json());
  REQUIRE(tokenizer.ok());
  CHECK(text_of(**tokenizer, {9, 6, 7, 9}) == "abc a");
  for (int32_t id : {-1, 10, 1 << 30}) {
    const Status status = (*tokenizer)->decode(Ids{6, id}).status();
    check_refusal(status, StatusCode::kNotFound, {fmt::format("{}", id), "10 ids"});
  }
}

TEST_CASE("a hole in the ids is counted but stands for nothing") {
  Result<std::unique_ptr<Tokenizer>> tokenizer =
      load_json(replaced(small_json(), "\"aa\": 8", "\"aa\": 20"));
  REQUIRE(tokenizer.ok());
  CHECK((*tokenizer)->vocab_size() == 21);
  CHECK((*tokenizer)->decode(Ids{15}).status().code() == StatusCode::kNotFound);
}

TEST_CASE("text that is not UTF-8 is refused with the offset") {
  Result<std::unique_ptr<Tokenizer>> tokenizer = load_json(small_json());
  REQUIRE(tokenizer.ok());
  check_refusal((*tokenizer)->encode("abc\xFF", SpecialTokens::kOmit).status(),
                StatusCode::kInvalidArgument, {"0xff", "offset 3"});
}

TEST_CASE("normalizers that double the text again and again are refused") {
  nlohmann::json json = nlohmann::json::parse(small_json());
  const nlohmann::json twice = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  json["normalizer"] = {{"type", "Sequence"},
                        {"normalizers", std::vector<nlohmann::json>(40, twice)}};
  Result<std::unique_ptr<Tokenizer>> tokenizer = load_json(json.dump());
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().to_string());
  CHECK((*tokenizer)->encode("b", SpecialTokens::kOmit).ok());
  check_refusal((*tokenizer)->encode("aaaa", SpecialTokens::kOmit).status(),
                StatusCode::kInvalidArgument, {"normalizer"});
  json["normalizer"] = twice;
  json["normalizer"]["content"] = std::string(100000, 'a');
  tokenizer = load_json(json.dump());
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().to_string());
  check_refusal((*tokenizer)->encode("aaaa", SpecialTokens::kOmit).status(),
                StatusCode::kInvalidArgument, {"replacing 4 matches"});
}

TEST_CASE("bytes that are not JSON are refused with the place") {
  check_refusal(load_json("").status(), StatusCode::kCorrupt, {"tokenizer.json", "empty"});
  check_refusal(load_json("{\"model\": ").status(), StatusCode::kCorrupt,
                {"tokenizer.json: not JSON", "byte 11"});
  check_refusal(load_json("{\"a\": \"\xFF\"}").status(), StatusCode::kCorrupt, {"not JSON"});
  check_refusal(load_json("[1, 2]").status(), StatusCode::kCorrupt,
                {"expected an object, got array"});
  check_refusal(load_json("{}").status(), StatusCode::kCorrupt, {"\"model\" is missing"});
  check_refusal(load_json(std::string(200000, '[')).status(), StatusCode::kCorrupt, {"not JSON"});
}

TEST_CASE("a tokenizer.json cut anywhere is refused") {
  const std::string whole = small_json();
  for (size_t size = 0; size < whole.size(); ++size) {
    CHECK(load_json(whole.substr(0, size)).status().code() == StatusCode::kCorrupt);
  }
}

TEST_CASE("a tokenizer.json with any byte replaced loads or is refused, and never crashes") {
  const std::string whole = small_json();
  for (size_t i = 0; i < whole.size(); ++i) {
    for (char c : {'0', '"', '}', '\xFF', '-'}) {
      std::string changed = whole;
      changed[i] = c;
      const Result<std::unique_ptr<Tokenizer>> tokenizer = load_json(changed);
      if (!tokenizer.ok()) continue;
      CHECK((*tokenizer)->encode("abc <s> a", SpecialTokens::kAdd).ok());
    }
  }
}

TEST_CASE("a damaged vocabulary is refused") {
  check_refusal(refusal("\"bc\": 5", "\"bc\": 4"), StatusCode::kCorrupt,
                {"model.vocab", "id 4", "\"ab\"", "\"bc\""});
  check_refusal(refusal("\"bc\": 5", "\"bc\": 5000000000"), StatusCode::kCorrupt,
                {"model.vocab", "\"bc\" is 5000000000", "16777215"});
  check_refusal(refusal("\"bc\": 5", "\"bc\": -5"), StatusCode::kCorrupt, {"\"bc\" is -5"});
  check_refusal(refusal("\"bc\": 5", "\"bc\": 5.5"), StatusCode::kCorrupt,
                {"expected an integer, got number"});
  check_refusal(refusal("\"vocab\"", "\"vocabulary\""), StatusCode::kCorrupt,
                {"tokenizer.json: model: the field \"vocab\" is missing"});
}

TEST_CASE("damaged merges are refused") {
  check_refusal(refusal("\"b c\"", "\"b x\""), StatusCode::kCorrupt,
                {"model.merges[1]", "\"x\" is not in the vocabulary"});
  check_refusal(refusal("\"b c\"", "\"c b\""), StatusCode::kCorrupt,
                {"model.merges[1]", "\"cb\" is not in the vocabulary"});
  check_refusal(refusal("\"b c\"", "\"bc\""), StatusCode::kCorrupt,
                {"model.merges[1]", "expected"});
  check_refusal(refusal("\"b c\"", "[\"b\", \"c\", \"a\"]"), StatusCode::kCorrupt,
                {"model.merges[1]"});
  check_refusal(refusal("\"merges\"", "\"merge\""), StatusCode::kCorrupt,
                {"\"merges\" is missing"});
}

TEST_CASE("components that this build does not have are refused by name") {
  check_refusal(refusal("\"type\": \"BPE\"", "\"type\": \"Unigram\""), StatusCode::kUnsupported,
                {"model type Unigram"});
  check_refusal(refusal("\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}"),
                StatusCode::kUnsupported, {"tokenizer.json: normalizer: normalizer NFC"});
  check_refusal(refusal("\"type\": \"ByteLevel\", \"add", "\"type\": \"BertPreTokenizer\", \"add"),
                StatusCode::kUnsupported, {"pre-tokenizer BertPreTokenizer"});
  check_refusal(refusal("TemplateProcessing", "RobertaProcessing"), StatusCode::kUnsupported,
                {"post-processor RobertaProcessing"});
  check_refusal(refusal("\"dropout\": null", "\"dropout\": 0.1"), StatusCode::kUnsupported,
                {"model.dropout", "0.1"});
  check_refusal(refusal("\"dropout\": null", "\"end_of_word_suffix\": \"</w>\""),
                StatusCode::kUnsupported, {"end_of_word_suffix", "</w>"});
  check_refusal(refusal("\"unk_token\": null", "\"unk_token\": \"<unk>\""), StatusCode::kCorrupt,
                {"unk_token", "<unk>"});
}

TEST_CASE("a damaged template is refused") {
  check_refusal(refusal("\"ids\": [9]", "\"ids\": [10]"), StatusCode::kCorrupt,
                {"ids[0]", "10 is outside the vocabulary of 10"});
  check_refusal(refusal("\"special_tokens\": {\"<s>\"", "\"special_tokens\": {\"<t>\""),
                StatusCode::kCorrupt, {"\"<s>\" is missing"});
  check_refusal(refusal(", {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}", ""),
                StatusCode::kCorrupt, {"post_processor.single", "no place"});
}

TEST_CASE("a Sequence nested without end is refused") {
  std::string nested = "null";
  for (int i = 0; i < 1000; ++i) {
    nested = "{\"type\": \"Sequence\", \"normalizers\": [" + nested + "]}";
  }
  check_refusal(refusal("\"normalizer\": null", "\"normalizer\": " + nested), StatusCode::kCorrupt,
                {"nested too deeply"});
}

TEST_CASE("a pattern that does not compile is refused with the field") {
  const std::string_view broken =
      R"("normalizer": {"type": "Replace", "pattern": {"Regex": "a("}, "content": ""})";
  check_refusal(refusal("\"normalizer\": null", broken), StatusCode::kInvalidArgument,
                {"tokenizer.json: normalizer.pattern: regex a("});
}

}  // namespace
}  // namespace abq::tokenizer
