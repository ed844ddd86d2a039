#include "tools/byte_size.h"

#include <charconv>
#include <cmath>
#include <string>

namespace abq::tools {
namespace {

// 0 for words that are no unit.
double unit_of(std::string_view text) {
  std::string word;
  for (const char c : text)
    word += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  if (word.empty() || word == "b") return 1;
  const size_t power = std::string_view("kmgt").find(word[0]);
  if (power == std::string_view::npos) return 0;
  const std::string rest = word.substr(1);
  const auto exponent = static_cast<double>(power + 1);
  if (rest.empty() || rest == "b") return std::pow(1000.0, exponent);
  return rest == "ib" ? std::pow(1024.0, exponent) : 0;
}

}  // namespace

Result<uint64_t> parse_byte_size(std::string_view text) {
  constexpr double kLimit = 0x1p63;
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error == std::errc()) {
    const double bytes =
        number * unit_of({end, static_cast<size_t>(text.data() + text.size() - end)});
    if (bytes >= 1 && bytes < kLimit) return static_cast<uint64_t>(bytes);
  }
  return invalid_argument("size '{}': expected a positive number of bytes such as 1500MB, 1.5GiB",
                          text);
}

}  // namespace abq::tools
