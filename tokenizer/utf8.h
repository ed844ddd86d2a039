// UTF-8 as the Unicode Standard defines it (table 3-7: no overlong forms, no surrogates).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "support/status.h"

namespace abq::tokenizer {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

enum class Utf8Kind {
  kCharacter,   // a whole character
  kIncomplete,  // the text ends inside what may still become a character
  kInvalid,     // can never become a character
};
struct Utf8Unit {
  Utf8Kind kind;
  // Bytes of the character, or of the longest beginning of one ("maximal subpart", at least 1).
  size_t size;
};
// Looks at the start of `text`, which is not empty.
Utf8Unit next_utf8_unit(std::string_view text);

// InvalidArgument with the offset of the first byte that is not UTF-8.
Status check_utf8(std::string_view text);

// Size in bytes of the character at the start of `text`, which is valid UTF-8 and not empty.
size_t utf8_size(std::string_view text);

std::string to_utf8(char32_t code_point);

// Puts characters together from bytes that arrive in parts.
class Utf8Assembler {
 public:
  // What becomes U+FFFD: each maximal subpart (the Unicode recommendation, byte-level decoders) or
  // each single byte (sentencepiece).
  enum class Replace { kSubpart, kByte };

  explicit Utf8Assembler(Replace replace) : replace_(replace) {}
  // Appends to `out` all that is decided; holds back at most the beginning of one character.
  void push(std::string_view bytes, std::string& out);
  // Nothing follows: what is held back becomes U+FFFD.
  void flush(std::string& out);

 private:
  void take(bool at_end, std::string& out);

  Replace replace_;
  std::string pending_;
};

}  // namespace abq::tokenizer
