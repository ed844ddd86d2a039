// The printable stand-ins for bytes of byte-level BPE: every byte is one character of the
// vocabulary, itself where it is printable Latin-1, else U+0100 and following in byte order
// (GPT-2's table).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace abq::tokenizer {

// UTF-8 of the character that stands for each byte.
const std::array<std::string, 256>& byte_level_characters();

// The bytes that `token` stands for; nullopt when one of its characters stands for none.
std::optional<std::string> byte_level_bytes(std::string_view token);

}  // namespace abq::tokenizer
