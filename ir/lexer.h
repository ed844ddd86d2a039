// Tokens of the textual IR (docs/ir.md has the grammar).
#pragma once

#include <string>
#include <string_view>

namespace abq::ir {

enum class TokenKind {
  kEnd,
  kWord,         // module, f32, rms_norm, eps
  kNumber,       // 12, -0.5, 1e-05, -inf
  kString,       // "text", with \" \\ \n \t \xHH
  kTensorName,   // @name or @"any name"
  kValueName,    // %name or %"any name"
  kPunctuation,  // { } ( ) [ ] < > , : = ->
  kInvalid,      // what cannot begin a token; `text` says what it is
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;  // contents, without sigil or quotes and with escapes resolved
  int line = 1;      // both from 1; columns count bytes
  int column = 1;
};

// How an error message names the token: `"text"`, `%x`, `end of text`, `byte 0xff`.
std::string describe(const Token& token);

// True when a name needs no quotes after @ or %: letters, digits, '_' and '.' only.
bool is_plain_name(std::string_view name);
// `name` as a quoted string of the text form.
std::string quote(std::string_view name);

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  // Never fails: what is no token comes back as kInvalid, and the end as kEnd forever.
  Token next();

 private:
  bool done() const { return at_ >= text_.size(); }
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : 0; }
  void advance();
  void skip_blanks_and_comments();
  void lex_name(Token& token, TokenKind kind);
  void lex_string(Token& token);
  bool lex_escape(std::string& text);

  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  int column_ = 1;
};

}  // namespace abq::ir
