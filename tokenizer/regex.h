// Regular expressions over UTF-8, on PCRE2 with its just-in-time compiler.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "support/status.h"

namespace abq::tokenizer {

struct Match {
  size_t begin;  // byte offsets
  size_t end;
};

// Thread-safe after compilation.
class Regex {
 public:
  // A pattern as tokenizer.json writes it (Oniguruma, Ruby syntax): `^` and `$` match at every
  // line, \s, \S and \w have their Unicode meaning. InvalidArgument with the offset where it goes
  // wrong; Unsupported for class intersections and \W inside a class, which PCRE2 would read
  // differently.
  static Result<Regex> compile(std::string_view pattern);
  // Matches exactly this text.
  static Result<Regex> literal(std::string_view text);

  // All matches in `text` (valid UTF-8), from left to right, without overlap. An empty match is
  // reported once and the search goes on one character further. InvalidArgument when the pattern
  // backtracks beyond PCRE2's limits.
  Result<std::vector<Match>> find_all(std::string_view text) const;

 private:
  struct Program;
  explicit Regex(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  static Result<Regex> build(std::string_view pattern, std::string_view shown, unsigned options);

  std::shared_ptr<const Program> program_;
};

// Bytes that rewriting `text` may give: far above what any model's rules make, and a bound for
// rules that double the text again and again.
inline size_t max_rewritten_size(std::string_view text) {
  return 64 * text.size() + 65536;
}

// `text` with every match replaced by `replacement`, taken literally. InvalidArgument when that
// would go beyond max_rewritten_size.
Result<std::string> replace_all(const Regex& regex, std::string_view text,
                                std::string_view replacement);

}  // namespace abq::tokenizer
