#include "ir/lexer.h"

#include <fmt/format.h>

#include <algorithm>

namespace abq::ir {

namespace {

// Not <cctype>: the text form does not depend on the locale, and a char may be negative.
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_name_char(char c) {
  return is_letter(c) || is_digit(c) || c == '.';
}

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

bool is_plain_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), is_name_char);
}

std::string quote(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') {
      text += '\\';
      text += c;
    } else if (c == '\n') {
      text += "\\n";
    } else if (c == '\t') {
      text += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      text += c;
    }
  }
  return text + '"';
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "end of text";
    case TokenKind::kString:
      return quote(token.text);
    case TokenKind::kTensorName:
      return "@" + token.text;
    case TokenKind::kValueName:
      return "%" + token.text;
    case TokenKind::kWord:
    case TokenKind::kNumber:
    case TokenKind::kPunctuation:
      return "'" + token.text + "'";
    case TokenKind::kInvalid:
      break;
  }
  return token.text;
}

void Lexer::advance() {
  if (text_[at_] == '\n') {
    ++line_;
    column_ = 1;
  } else {
    ++column_;
  }
  ++at_;
}

void Lexer::skip_blanks_and_comments() {
  while (!done()) {
    const char c = peek();
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      advance();
    } else if (c == ';' || (c == '/' && peek(1) == '/')) {
      while (!done() && peek() != '\n')
        advance();
    } else {
      return;
    }
  }
}

Token Lexer::next() {
  skip_blanks_and_comments();
  Token token;
  token.line = line_;
  token.column = column_;
  if (done()) return token;
  const char c = peek();
  if (c == '@' || c == '%') {
    advance();
    lex_name(token, c == '@' ? TokenKind::kTensorName : TokenKind::kValueName);
  } else if (c == '"') {
    lex_string(token);
  } else if (c == '-' && peek(1) == '>') {
    token.kind = TokenKind::kPunctuation;
    token.text = "->";
    advance();
    advance();
  } else if (is_letter(c) || is_digit(c) || c == '-') {
    token.kind = is_letter(c) ? TokenKind::kWord : TokenKind::kNumber;
    do {
      token.text += peek();
      advance();
    } while (is_name_char(peek()) ||
             (token.kind == TokenKind::kNumber && token.text.back() == 'e' &&
              (peek() == '-' || peek() == '+')));
  } else if (std::string_view("{}()[]<>,:=").find(c) != std::string_view::npos) {
    token.kind = TokenKind::kPunctuation;
    token.text = c;
    advance();
  } else {
    token.kind = TokenKind::kInvalid;
    const auto byte = static_cast<unsigned char>(c);
    token.text =
        byte > 0x20 && byte < 0x7f ? fmt::format("'{}'", c) : fmt::format("byte 0x{:02x}", byte);
    advance();
  }
  return token;
}

void Lexer::lex_name(Token& token, TokenKind kind) {
  if (peek() == '"') {
    lex_string(token);
    if (token.kind == TokenKind::kString) token.kind = kind;
    return;
  }
  token.kind = kind;
  while (is_name_char(peek())) {
    token.text += peek();
    advance();
  }
  if (token.text.empty()) {
    token.kind = TokenKind::kInvalid;
    token.text = kind == TokenKind::kTensorName ? "'@' without a name" : "'%' without a name";
  }
}

void Lexer::lex_string(Token& token) {
  token.kind = TokenKind::kString;
  advance();
  while (!done() && peek() != '"' && peek() != '\n') {
    if (peek() != '\\') {
      token.text += peek();
      advance();
    } else if (!lex_escape(token.text)) {
      token.kind = TokenKind::kInvalid;
      token.text = "string with an unknown escape";
      return;
    }
  }
  if (peek() != '"') {
    token.kind = TokenKind::kInvalid;
    token.text = "string without closing quote";
    return;
  }
  advance();
}

// At a backslash: appends what the escape stands for; false for one that is not known.
bool Lexer::lex_escape(std::string& text) {
  advance();
  const char c = peek();
  if (c == 'x') {
    const int high = hex_value(peek(1));
    const int low = hex_value(peek(2));
    if (high < 0 || low < 0) return false;
    text += static_cast<char>(high * 16 + low);
    advance();
    advance();
  } else if (c == 'n' || c == 't') {
    text += c == 'n' ? '\n' : '\t';
  } else if (c == '"' || c == '\\') {
    text += c;
  } else {
    return false;
  }
  advance();
  return true;
}

}  // namespace abq::ir
