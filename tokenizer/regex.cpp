#include "tokenizer/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <cstdint>

#include "tokenizer/utf8.h"

namespace abq::tokenizer {
namespace {

// Oniguruma's \w, which has the Latin-1 superscripts and fractions too; PCRE2's leaves out marks
// and connectors.
constexpr std::string_view kWordClass =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct CompileContextDeleter {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

std::string error_text(int code) {
  PCRE2_UCHAR buffer[160];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

// One escape of the pattern, `\` and what follows, in PCRE2's words.
Result<std::string> translate_escape(std::string_view escape, bool in_class,
                                     std::string_view pattern) {
  switch (escape[1]) {
    // PCRE2's \s has U+180E, which is white space no longer.
    case 's':
      return std::string("\\p{White_Space}");
    case 'S':
      return std::string("\\P{White_Space}");
    case 'w':
      return in_class ? std::string(kWordClass) : fmt::format("[{}]", kWordClass);
    case 'W':
      if (in_class) return unsupported("regex {}: \\W inside [...] is not supported", pattern);
      return fmt::format("[^{}]", kWordClass);
    default:
      return std::string(escape);
  }
}

Result<std::string> translate(std::string_view pattern) {
  std::string out;
  int class_depth = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      ABQ_ASSIGN_OR_RETURN(const std::string escape,
                           translate_escape(pattern.substr(i, 2), class_depth > 0, pattern));
      out += escape;
      ++i;
      continue;
    }
    if (class_depth > 0 &&
        (pattern.substr(i, 2) == "&&" || (c == '[' && pattern.substr(i, 2) != "[:"))) {
      return unsupported(
          "regex {}: nested classes and intersections inside [...], at offset {}, "
          "are not supported",
          pattern, i);
    }
    if (c == '[' && class_depth > 0) {  // [:name:]
      const size_t end = pattern.find(":]", i + 2);
      if (end != std::string_view::npos) {
        out += pattern.substr(i, end + 2 - i);
        i = end + 1;
        continue;
      }
    }
    if (c == '[') ++class_depth;
    if (c == ']' && class_depth > 0) --class_depth;
    out += c;
  }
  return out;
}

}  // namespace

struct Regex::Program {
  pcre2_code* code = nullptr;
  std::string pattern;

  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { pcre2_code_free(code); }
};

Result<Regex> Regex::build(std::string_view pattern, std::string_view shown, unsigned options) {
  const std::unique_ptr<pcre2_compile_context, CompileContextDeleter> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  auto program = std::make_shared<Program>();
  program->pattern = shown;
  int code = 0;
  PCRE2_SIZE offset = 0;
  program->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                options, &code, &offset, context.get());
  if (program->code == nullptr) {
    return invalid_argument("regex {}: {} at offset {}", shown, error_text(code), offset);
  }
  // Without the JIT (another architecture, a hardened kernel) the interpreter gives equal matches.
  pcre2_jit_compile(program->code, PCRE2_JIT_COMPLETE);
  return Regex(std::move(program));
}

Result<Regex> Regex::compile(std::string_view pattern) {
  ABQ_ASSIGN_OR_RETURN(const std::string translated, translate(pattern));
  // \C matches single bytes: the next search would start inside a character.
  return build(translated, pattern,
               PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
}

Result<Regex> Regex::literal(std::string_view text) {
  if (text.empty()) return invalid_argument("pattern: the text to match is empty");
  return build(text, text, PCRE2_UTF | PCRE2_LITERAL);
}

Result<std::vector<Match>> Regex::find_all(std::string_view text) const {
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(
      pcre2_match_data_create_from_pattern(program_->code, nullptr));
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  std::vector<Match> matches;
  for (size_t start = 0; start < text.size();) {
    // The text was checked once for all; PCRE2 would check it again at every call.
    int found = pcre2_match(program_->code, subject, text.size(), start, PCRE2_NO_UTF_CHECK,
                            data.get(), nullptr);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      found = pcre2_match(program_->code, subject, text.size(), start,
                          PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(), nullptr);
    }
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return invalid_argument("regex {}: {} at byte {} of the text", program_->pattern,
                              error_text(found), start);
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
    // \K inside a lookahead may put the start behind the end.
    const Match match{std::min<size_t>(bounds[0], bounds[1]), bounds[1]};
    matches.push_back(match);
    if (match.end > start && match.end > match.begin) {
      start = match.end;
    } else {
      start = match.end < text.size() ? match.end + utf8_size(text.substr(match.end)) : text.size();
    }
  }
  return matches;
}

Result<std::string> replace_all(const Regex& regex, std::string_view text,
                                std::string_view replacement) {
  ABQ_ASSIGN_OR_RETURN(const std::vector<Match> matches, regex.find_all(text));
  if (matches.size() * replacement.size() > max_rewritten_size(text)) {
    return invalid_argument(
        "replacing {} matches by {} bytes each would make more than {} bytes of a text of {}",
        matches.size(), replacement.size(), max_rewritten_size(text), text.size());
  }
  std::string out;
  size_t done = 0;
  for (const Match& match : matches) {
    out += text.substr(done, match.begin - done);
    out += replacement;
    done = match.end;
  }
  out += text.substr(done);
  return out;
}

}  // namespace abq::tokenizer
