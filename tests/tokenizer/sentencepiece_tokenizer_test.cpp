#include "tokenizer/sentencepiece_tokenizer.h"

#include "tests/tokenizer/fixtures.h"
#include "tokenizer/utf8.h"

namespace abq::tokenizer {
namespace {

constexpr std::string_view kModel = "tokenizers/llama2-style.model";

TEST_CASE("a tokenizer.model knows its pieces and adds BOS on request") {
  const std::unique_ptr<Tokenizer> tokenizer = load_data(kModel);
  CHECK(tokenizer->kind() == Kind::kSentencePiece);
  CHECK(tokenizer->vocab_size() == 512);
  CHECK(tokenizer->token_to_id("<s>") == 1);
  CHECK(tokenizer->token_to_id("<unk>") == 0);
  CHECK(tokenizer->token_to_id("no such piece") == std::nullopt);
  CHECK(tokenizer->is_special(1));
  CHECK(!tokenizer->is_special(100));
  CHECK(!tokenizer->is_special(-1));
  CHECK(!tokenizer->is_special(512));
  CHECK(ids_of(*tokenizer, "", SpecialTokens::kAdd) == std::vector<int32_t>{1});
}

TEST_CASE("ids outside the model and broken text are refused") {
  const std::unique_ptr<Tokenizer> tokenizer = load_data(kModel);
  const std::vector<int32_t> ids = {5, 512};
  check_refusal(tokenizer->decode(ids).status(), StatusCode::kNotFound, {"512"});
  check_refusal(tokenizer->encode("a\xC3", SpecialTokens::kOmit).status(),
                StatusCode::kInvalidArgument, {"offset 1"});
}

TEST_CASE("bytes that are no model are refused") {
  for (std::string bytes : {std::string("no model"), std::string(1000, '\0'),
                            read_data_file("tiny-llama/tokenizer.json")}) {
    check_refusal(load_tokenizer(Kind::kSentencePiece, bytes, "tokenizer.model").status(),
                  StatusCode::kCorrupt, {"tokenizer.model: "});
  }
}

TEST_CASE("a model cut anywhere loads or is refused, and never crashes") {
  const std::string whole = read_data_file(kModel);
  for (size_t size = 0; size < whole.size(); size += 37) {
    const Result<std::unique_ptr<Tokenizer>> tokenizer =
        load_tokenizer(Kind::kSentencePiece, whole.substr(0, size), "tokenizer.model");
    if (tokenizer.ok()) CHECK((*tokenizer)->encode("abc", SpecialTokens::kAdd).ok());
  }
}

TEST_CASE("a model with a flipped bit loads or is refused in valid UTF-8") {
  const std::string whole = read_data_file(kModel);
  for (size_t i = 0; i < whole.size(); i += 23) {
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
    const Result<std::unique_ptr<Tokenizer>> tokenizer =
        load_tokenizer(Kind::kSentencePiece, changed, "tokenizer.model");
    if (tokenizer.ok()) {
      CHECK((*tokenizer)->encode("abc", SpecialTokens::kAdd).ok());
    } else {
      CHECK(check_utf8(tokenizer.status().message()).ok());
    }
  }
}

}  // namespace
}  // namespace abq::tokenizer
