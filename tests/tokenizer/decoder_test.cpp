#include "tokenizer/decoder.h"

#include <nlohmann/json.hpp>

#include "tests/tokenizer/fixtures.h"

namespace abq::tokenizer {
namespace {

Result<Decoder> make_decoder(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  return Decoder::from_json(JsonNode(json, "decoder"));
}

std::string decode(const Decoder& decoder, std::vector<std::string_view> tokens) {
  DecoderState state(decoder);
  std::string text;
  for (std::string_view token : tokens) {
    Result<std::string> piece = state.push(token);
    REQUIRE(piece.ok());
    text += *piece;
  }
  return text + state.finish();
}

TEST_CASE("without a decoder the tokens stand between spaces") {
  CHECK(decode(Decoder(), {"a", "b", "c"}) == "a b c");
}

TEST_CASE("Llama-2's decoder joins bytes, marks and strips one space") {
  Result<Decoder> decoder = make_decoder(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "_"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  REQUIRE(decoder.ok());
  CHECK(decode(*decoder, {"__a", "_b"}) == " a b");
  CHECK(decode(*decoder, {"a", "_b"}) == "a b");
  CHECK(decode(*decoder, {"_", "_", "a"}) == " a");
  CHECK(decode(*decoder, {"<0xC3>", "<0xA9>", "x"}) == "\xC3\xA9x");
  CHECK(decode(*decoder, {"<0xC3>", "x", "<0xE2>", "<0x82>"}) ==
        "\xEF\xBF\xBDx\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK(decode(*decoder, {"<0xZZ>", "<0x1>", "<0x+1>"}) == "<0xZZ><0x1><0x+1>");
}

TEST_CASE("Metaspace drops the marks of the first token only where one was put in front") {
  const auto metaspace = [](std::string_view scheme) {
    return make_decoder(fmt::format(
        R"({{"type": "Metaspace", "replacement": "_", "prepend_scheme": "{}"}})", scheme));
  };
  CHECK(decode(*metaspace("always"), {"_a", "_b_"}) == "a b ");
  CHECK(decode(*metaspace("never"), {"_a", "_b"}) == " a b");
}

TEST_CASE("decoders that cannot stream are refused by name") {
  check_refusal(make_decoder(R"({"type": "WordPiece"})").status(), StatusCode::kUnsupported,
                {"WordPiece"});
  check_refusal(
      make_decoder(R"({"type": "Strip", "content": " ", "start": 1, "stop": 0})").status(),
      StatusCode::kUnsupported, {"Strip", "after Fuse"});
  check_refusal(make_decoder(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 0, "stop": 1}]})")
                    .status(),
                StatusCode::kUnsupported, {"decoders[1].stop"});
  check_refusal(make_decoder(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
      {"type": "ByteFallback"}]})")
                    .status(),
                StatusCode::kUnsupported, {"ByteFallback after"});
}

}  // namespace
}  // namespace abq::tokenizer
