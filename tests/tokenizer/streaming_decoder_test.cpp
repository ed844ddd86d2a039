#include <random>
#include <thread>

#include "tests/tokenizer/fixtures.h"
#include "tokenizer/utf8.h"

namespace abq::tokenizer {
namespace {

constexpr std::string_view kAll[] = {
    "tiny-llama/tokenizer.json",     "tokenizers/gpt2-style.json",
    "tokenizers/llama2-style.json",  "tokenizers/metaspace-first.json",
    "tokenizers/llama2-style.model",
};

TEST_CASE("streamed pieces of random ids are valid UTF-8 and add up to the whole text") {
  std::mt19937 random(7);
  for (std::string_view name : kAll) {
    CAPTURE(name);
    const std::unique_ptr<Tokenizer> tokenizer = load_data(name);
    for (int round = 0; round < 200; ++round) {
      std::vector<int32_t> ids(random() % 40);
      for (int32_t& id : ids) {
        // The first 260 ids hold the bytes: a mix of broken and whole characters.
        id = static_cast<int32_t>(random() % (round % 2 == 0 ? 260 : tokenizer->vocab_size()));
      }
      CHECK(streamed_text(*tokenizer, ids) == text_of(*tokenizer, ids));
    }
  }
}

TEST_CASE("a character in several tokens appears with its last byte") {
  for (std::string_view name : kAll) {
    if (name.find("metaspace") != std::string_view::npos) continue;  // has no bytes
    CAPTURE(name);
    const std::unique_ptr<Tokenizer> tokenizer = load_data(name);
    const std::vector<int32_t> ids = ids_of(*tokenizer, "\xF0\x9F\x98\x80");
    REQUIRE(ids.size() >= 4);
    StreamingDecoder decoder(*tokenizer);
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      Result<std::string> piece = decoder.push(ids[i]);
      REQUIRE(piece.ok());
      CHECK((piece->empty() || *piece == " "));
    }
    CHECK(*decoder.push(ids.back()) == "\xF0\x9F\x98\x80");
    CHECK(decoder.finish()->empty());
  }
}

TEST_CASE("an unfinished character becomes U+FFFD at the end, and the decoder starts anew") {
  const std::unique_ptr<Tokenizer> tokenizer = load_data("tiny-llama/tokenizer.json");
  const std::vector<int32_t> ids = ids_of(*tokenizer, "\xF0\x9F\x98\x80");
  StreamingDecoder decoder(*tokenizer);
  CHECK(decoder.finish()->empty());
  CHECK(decoder.push(ids[0])->empty());
  CHECK(*decoder.finish() == kReplacementCharacter);
  CHECK(*decoder.push(ids_of(*tokenizer, "a")[0]) == "a");
}

TEST_CASE("an unknown id is refused and the stream goes on") {
  for (std::string_view name : kAll) {
    const std::unique_ptr<Tokenizer> tokenizer = load_data(name);
    StreamingDecoder decoder(*tokenizer);
    check_refusal(decoder.push(1 << 20).status(), StatusCode::kNotFound, {"1048576"});
    CHECK(decoder.push(300).ok());
  }
}

TEST_CASE("a hundred thousand tokens stream in linear time") {
  for (std::string_view name : kAll) {
    const std::unique_ptr<Tokenizer> tokenizer = load_data(name);
    StreamingDecoder decoder(*tokenizer);
    for (int i = 0; i < 100000; ++i)
      REQUIRE(decoder.push(261 + i % 200).ok());
  }
}

TEST_CASE("one tokenizer serves several threads") {
  for (std::string_view name : kAll) {
    const std::unique_ptr<Tokenizer> tokenizer = load_data(name);
    const std::string text = "The quick brown fox, 42 times: \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E";
    const std::vector<int32_t> expected = ids_of(*tokenizer, text);
    std::vector<std::thread> threads;
    std::vector<int> wrong(4, 0);
    for (int& count : wrong) {
      threads.emplace_back([&] {
        for (int i = 0; i < 200; ++i) {
          Result<std::vector<int32_t>> ids = tokenizer->encode(text, SpecialTokens::kOmit);
          if (!ids.ok() || *ids != expected) ++count;
        }
      });
    }
    for (std::thread& thread : threads)
      thread.join();
    CHECK(wrong == std::vector<int>(4, 0));
  }
}

}  // namespace
}  // namespace abq::tokenizer
