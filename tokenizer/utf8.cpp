#include "tokenizer/utf8.h"

#include <algorithm>
#include <cstdint>

namespace abq::tokenizer {
namespace {

struct LeadByte {
  size_t size;         // of the whole character; 0 for a byte that starts none
  uint8_t second_low;  // the second byte's range, narrower than 80..BF after E0, ED, F0 and F4
  uint8_t second_high;
};

LeadByte lead_byte(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Unit next_utf8_unit(std::string_view text) {
  const LeadByte lead = lead_byte(static_cast<uint8_t>(text[0]));
  if (lead.size == 0) return {Utf8Kind::kInvalid, 1};
  for (size_t i = 1; i < lead.size; ++i) {
    if (i == text.size()) return {Utf8Kind::kIncomplete, i};
    const auto byte = static_cast<uint8_t>(text[i]);
    const uint8_t low = i == 1 ? lead.second_low : 0x80;
    const uint8_t high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Kind::kInvalid, i};
  }
  return {Utf8Kind::kCharacter, lead.size};
}

Status check_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Unit unit = next_utf8_unit(text.substr(i));
    if (unit.kind != Utf8Kind::kCharacter) {
      return invalid_argument(
          "text: byte 0x{:02x} at offset {} is not valid UTF-8; convert the "
          "text to UTF-8 first",
          static_cast<uint8_t>(text[i]), i);
    }
    i += unit.size;
  }
  return {};
}

size_t utf8_size(std::string_view text) {
  return std::min(std::max<size_t>(lead_byte(static_cast<uint8_t>(text[0])).size, 1), text.size());
}

std::string to_utf8(char32_t code_point) {
  const auto tail = [code_point](int shift) {
    return static_cast<char>(0x80 | ((code_point >> shift) & 0x3F));
  };
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  if (code_point < 0x800) return {static_cast<char>(0xC0 | (code_point >> 6)), tail(0)};
  if (code_point < 0x10000) {
    return {static_cast<char>(0xE0 | (code_point >> 12)), tail(6), tail(0)};
  }
  return {static_cast<char>(0xF0 | (code_point >> 18)), tail(12), tail(6), tail(0)};
}

void Utf8Assembler::push(std::string_view bytes, std::string& out) {
  pending_ += bytes;
  take(/*at_end=*/false, out);
}

void Utf8Assembler::flush(std::string& out) {
  take(/*at_end=*/true, out);
}

void Utf8Assembler::take(bool at_end, std::string& out) {
  size_t begin = 0;
  while (begin < pending_.size()) {
    const Utf8Unit unit = next_utf8_unit(std::string_view(pending_).substr(begin));
    if (unit.kind == Utf8Kind::kIncomplete && !at_end) break;
    if (unit.kind == Utf8Kind::kCharacter) {
      out.append(pending_, begin, unit.size);
      begin += unit.size;
    } else {
      out += kReplacementCharacter;
      begin += replace_ == Replace::kByte ? 1 : unit.size;
    }
  }
  pending_.erase(0, begin);
}

}  // namespace abq::tokenizer
