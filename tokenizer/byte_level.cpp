#include "tokenizer/byte_level.h"

#include <unordered_map>

#include "tokenizer/utf8.h"

namespace abq::tokenizer {
namespace {

bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

std::array<std::string, 256> make_characters() {
  std::array<std::string, 256> characters;
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    characters[byte] = to_utf8(stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++);
  }
  return characters;
}

std::unordered_map<std::string_view, char> make_bytes() {
  std::unordered_map<std::string_view, char> bytes;
  const std::array<std::string, 256>& characters = byte_level_characters();
  for (int byte = 0; byte < 256; ++byte)
    bytes[characters[byte]] = static_cast<char>(byte);
  return bytes;
}

}  // namespace

const std::array<std::string, 256>& byte_level_characters() {
  static const std::array<std::string, 256> characters = make_characters();
  return characters;
}

std::optional<std::string> byte_level_bytes(std::string_view token) {
  static const std::unordered_map<std::string_view, char> bytes = make_bytes();
  std::string out;
  while (!token.empty()) {
    const size_t size = utf8_size(token);
    const auto found = bytes.find(token.substr(0, size));
    if (found == bytes.end()) return std::nullopt;
    out += found->second;
    token.remove_prefix(size);
  }
  return out;
}

}  // namespace abq::tokenizer
