#include "support/checksum.h"

#include <doctest/doctest.h>

#include <string_view>

using namespace abq;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

TEST_CASE("checksums are XXH3 with its published values for the empty input") {
  CHECK(checksum64({}) == 0x2d06800538d394c2u);
  CHECK(digest128({}) == "99aa06d3014798d86001c324468d497f");
}

TEST_CASE("a hasher over any parts equals the one-shot checksum") {
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text.push_back(static_cast<char>(i * 7));
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{255}, size_t{1024}, text.size()}) {
    Hasher hasher;
    hasher.update(bytes_of(std::string_view(text).substr(0, cut)));
    hasher.update(bytes_of(std::string_view(text).substr(cut)));
    CHECK(hasher.checksum64() == checksum64(bytes_of(text)));
    CHECK(hasher.digest128() == digest128(bytes_of(text)));
  }
}

TEST_CASE("any flipped bit changes the checksum, and a digest has 32 lower-case hex digits") {
  std::string text(100, 'a');
  const uint64_t original = checksum64(bytes_of(text));
  int same = 0;
  for (size_t bit = 0; bit < 8 * text.size(); ++bit) {
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << (bit % 8)));
    same += checksum64(bytes_of(text)) == original;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << (bit % 8)));
  }
  CHECK(same == 0);
  const std::string digest = digest128(bytes_of(text));
  CHECK(digest.size() == 32);
  CHECK(digest.find_first_not_of("0123456789abcdef") == std::string::npos);
}
