#include "tokenizer/utf8.h"

#include <doctest/doctest.h>

namespace abq::tokenizer {
namespace {

std::string assembled(Utf8Assembler::Replace replace, std::string_view bytes) {
  Utf8Assembler assembler(replace);
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    assembler.push(bytes.substr(i, 1), text);
    CHECK(check_utf8(text).ok());
  }
  assembler.flush(text);
  return text;
}

TEST_CASE("every code point but the surrogates is one UTF-8 character") {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    const std::string text = to_utf8(code);
    const Utf8Unit unit = next_utf8_unit(text);
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    if ((unit.kind == Utf8Kind::kCharacter) == surrogate ||
        (!surrogate && unit.size != text.size())) {
      FAIL("code point ", static_cast<uint32_t>(code));
    }
  }
}

TEST_CASE("what is not UTF-8 is refused with its offset") {
  CHECK(check_utf8("plain, \xC3\xA9 and \xF0\x9F\x98\x80").ok());
  for (std::string_view bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5", "\xFF", "\xC3", "\xE2\x82", "\xF0\x9F\x98"}) {
    const Status status = check_utf8("abc" + std::string(bad));
    REQUIRE(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message().find("at offset 3 ") != std::string::npos);
  }
}

TEST_CASE("bytes that arrive one by one make the characters they make together") {
  const std::string_view text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
  CHECK(assembled(Utf8Assembler::Replace::kSubpart, text) == text);
  CHECK(assembled(Utf8Assembler::Replace::kByte, text) == text);
}

TEST_CASE("a broken sequence becomes one replacement character a subpart or a byte") {
  const std::string r(kReplacementCharacter);
  CHECK(assembled(Utf8Assembler::Replace::kSubpart, "\xE2\x82z") == r + "z");
  CHECK(assembled(Utf8Assembler::Replace::kByte, "\xE2\x82z") == r + r + "z");
  CHECK(assembled(Utf8Assembler::Replace::kSubpart, "a\xF0\x9F\x98") == "a" + r);
  CHECK(assembled(Utf8Assembler::Replace::kByte, "a\xF0\x9F\x98") == "a" + r + r + r);
  CHECK(assembled(Utf8Assembler::Replace::kSubpart, "\xED\xA0\x80") == r + r + r);
  CHECK(assembled(Utf8Assembler::Replace::kSubpart, "\xE2\xC3\xA9") == r + "\xC3\xA9");
}

}  // namespace
}  // namespace abq::tokenizer
