// Recursive descent over the tokens of the textual IR; docs/ir.md has the grammar, rule by rule.
#include <charconv>
#include <limits>
#include <map>

#include "ir/lexer.h"
#include "ir/tensor_text.h"
#include "ir/text.h"

namespace abq::ir {

namespace {

// A number token as T, or nothing when it is not wholly one or does not fit.
template <class T>
std::optional<T> number_as(const Token& token) {
  T value{};
  const char* end = token.text.data() + token.text.size();
  const auto [rest, error] = std::from_chars(token.text.data(), end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

bool is_float_word(const Token& token) {
  return token.kind == TokenKind::kWord && (token.text == "inf" || token.text == "nan");
}

class Parser {
 public:
  Parser(std::string_view text, std::string_view name) : lexer_(text), name_(name) { advance(); }

  Result<Module> parse_module();
  Result<Type> parse_type();
  Status expect_end() { return token_.kind == TokenKind::kEnd ? Status() : error("end of text"); }

 private:
  // A place in the text to complain about later.
  Status error_at(const Token& token, std::string_view expected) const {
    return invalid_argument("{}:{}:{}: found {}, expected {}", name_, token.line, token.column,
                            describe(token), expected);
  }
  Status error(std::string_view expected) const { return error_at(token_, expected); }
  void advance() { token_ = lexer_.next(); }
  bool at(std::string_view punctuation) const {
    return token_.kind == TokenKind::kPunctuation && token_.text == punctuation;
  }
  bool at_word(std::string_view word) const {
    return token_.kind == TokenKind::kWord && token_.text == word;
  }
  bool accept(std::string_view punctuation) {
    if (!at(punctuation)) return false;
    advance();
    return true;
  }
  Status expect(std::string_view punctuation) {
    if (accept(punctuation)) return {};
    return error(fmt::format("'{}'", punctuation));
  }
  Result<Token> expect_kind(TokenKind kind, std::string_view what) {
    if (token_.kind != kind) return error(what);
    Token taken = std::move(token_);
    advance();
    return taken;
  }
  Result<int64_t> parse_integer(int64_t low, int64_t high, std::string_view what);

  Result<AttributeValue> parse_attribute_value();
  Status parse_attributes(std::map<std::string, AttributeValue>& attributes);
  Result<int64_t> parse_dimension();
  Status parse_tensor(Module& module);
  Status parse_tensor_data(Tensor& tensor);
  Status parse_values(TensorFiller& filler);
  Status parse_region(RegionKind kind, Module& module);
  Status parse_arguments(Region& region);
  Status parse_result_names(std::vector<Token>& names);
  Status parse_node(Region& region);
  Status parse_operands(Node& node);
  Result<ValueId> define(Region& region, const Token& name);
  Result<ValueId> lookup(const Token& name) const;

  Lexer lexer_;
  std::string name_;
  Token token_;
  std::map<std::string, ValueId> values_;  // of the region being parsed
};

Result<int64_t> Parser::parse_integer(int64_t low, int64_t high, std::string_view what) {
  const auto value = token_.kind == TokenKind::kNumber ? number_as<int64_t>(token_) : std::nullopt;
  if (!value || *value < low || *value > high) return error(what);
  advance();
  return *value;
}

Result<AttributeValue> Parser::parse_attribute_value() {
  AttributeValue value;
  if (token_.kind == TokenKind::kString) {
    value = token_.text;
  } else if (token_.kind == TokenKind::kNumber || is_float_word(token_)) {
    if (const auto integer = number_as<int64_t>(token_)) {
      value = *integer;
    } else if (const auto real = number_as<double>(token_)) {
      value = *real;
    } else {
      return error("a number in range");
    }
  } else {
    return error("an attribute value (integer, float or string)");
  }
  advance();
  return value;
}

// attributes := '{' [word '=' value {',' word '=' value}] '}', or nothing
Status Parser::parse_attributes(std::map<std::string, AttributeValue>& attributes) {
  if (!accept("{") || accept("}")) return {};
  do {
    const Token key_token = token_;
    ABQ_ASSIGN_OR_RETURN(const Token key, expect_kind(TokenKind::kWord, "an attribute name"));
    ABQ_RETURN_IF_ERROR(expect("="));
    ABQ_ASSIGN_OR_RETURN(AttributeValue value, parse_attribute_value());
    if (!attributes.emplace(key.text, std::move(value)).second) {
      return error_at(key_token, "an attribute that was not given yet");
    }
  } while (accept(","));
  return expect("}");
}

Result<int64_t> Parser::parse_dimension() {
  if (at_word("T")) {
    advance();
    return kTokenDim;
  }
  return parse_integer(0, kMaxElements, "a dimension (T or an integer of at most 2^46)");
}

// type := element ['<' bits '>'] '[' [dimension {',' dimension}] ']'
Result<Type> Parser::parse_type() {
  const Token start = token_;
  ABQ_ASSIGN_OR_RETURN(const Token element, expect_kind(TokenKind::kWord, "a type"));
  const std::optional<ElementType> element_type = element_type_from_name(element.text);
  if (!element_type) {
    return error_at(start,
                    "an element type (f32, f16, bf16, i32, u8, tokens, planes, base5, base3)");
  }
  Type type;
  type.element = *element_type;
  if (type.element == ElementType::kTokens || is_packed(type.element)) {
    ABQ_RETURN_IF_ERROR(expect("<"));
    ABQ_ASSIGN_OR_RETURN(const int64_t bits, parse_integer(1, 8, "the bits of a code (1 to 8)"));
    type.code_bits = static_cast<int>(bits);
    ABQ_RETURN_IF_ERROR(expect(">"));
  }
  ABQ_RETURN_IF_ERROR(expect("["));
  int64_t count = 1;
  if (!at("]")) {
    do {
      ABQ_ASSIGN_OR_RETURN(const int64_t dim, parse_dimension());
      if (dim > 0 && count > kMaxElements / dim) {
        return error_at(start, "a type of at most 2^46 elements");
      }
      if (dim > 0) count *= dim;
      type.shape.push_back(dim);
    } while (accept(","));
  }
  ABQ_RETURN_IF_ERROR(expect("]"));
  if (is_packed(type.element) && type.shape.size() != 2) {
    return error_at(start, "packed codes with two dimensions [N, K]");
  }
  return type;
}

// tensor := 'tensor' '@'name ':' type ['=' data | 'digest' string]
Status Parser::parse_tensor(Module& module) {
  advance();
  const Token name = token_;
  ABQ_RETURN_IF_ERROR(expect_kind(TokenKind::kTensorName, "a tensor name (@name)").status());
  ABQ_RETURN_IF_ERROR(expect(":"));
  const Token type_token = token_;
  Tensor tensor;
  ABQ_ASSIGN_OR_RETURN(tensor.type, parse_type());
  for (const int64_t dim : tensor.type.shape) {
    if (dim == kTokenDim) return error_at(type_token, "a tensor type without a token dimension");
  }
  if (tensor.type.element == ElementType::kTokens) {
    return error_at(type_token, "a tensor type (quantized activations are values only)");
  }
  if (accept("=")) {
    ABQ_RETURN_IF_ERROR(parse_tensor_data(tensor));
  } else if (at_word("digest")) {
    advance();
    if (token_.kind != TokenKind::kString || token_.text.size() != 32 ||
        token_.text.find_first_not_of("0123456789abcdef") != std::string::npos) {
      return error("a digest (string of 32 hex digits)");
    }
    tensor.digest = token_.text;
    advance();
  }
  if (!module.tensors.emplace(name.text, std::move(tensor)).second) {
    return error_at(name, "a tensor that was not declared yet");
  }
  return {};
}

// data := '[' [number {',' number}] ']' | 'fill' number | 'random' 'seed' integer 'scale' number
Status Parser::parse_tensor_data(Tensor& tensor) {
  Result<TensorFiller> filler = TensorFiller::create(tensor.type);
  if (!filler.ok()) return error(filler.status().message());
  if (at("[")) {
    ABQ_RETURN_IF_ERROR(parse_values(*filler));
  } else if (at_word("fill")) {
    advance();
    if (!filler->fill(token_.text)) return error("a number that fits the element type");
    advance();
  } else if (at_word("random")) {
    advance();
    if (!is_float(tensor.type.element)) return error("a float tensor for random values");
    if (!at_word("seed")) return error("'seed'");
    advance();
    ABQ_ASSIGN_OR_RETURN(const int64_t seed,
                         parse_integer(0, std::numeric_limits<int64_t>::max(), "a seed (>= 0)"));
    if (!at_word("scale")) return error("'scale'");
    advance();
    const auto scale = number_as<double>(token_);
    if (token_.kind != TokenKind::kNumber || !scale) return error("a scale (a number)");
    advance();
    filler->fill_normal(static_cast<uint64_t>(seed), *scale);
  } else {
    return error("tensor data ('[', fill or random)");
  }
  tensor.data = filler->take();
  return {};
}

Status Parser::parse_values(TensorFiller& filler) {
  advance();
  if (!at("]")) {
    do {
      if (filler.full()) return error("']' (the tensor has no more elements)");
      const bool number = token_.kind == TokenKind::kNumber || is_float_word(token_);
      if (!number || !filler.append(token_.text)) {
        return error("a number that fits the element type");
      }
      advance();
    } while (accept(","));
  }
  if (!filler.full()) return error(fmt::format("{} more elements", filler.missing()));
  return expect("]");
}

Result<ValueId> Parser::define(Region& region, const Token& name) {
  if (values_.contains(name.text)) return error_at(name, "a value that was not defined yet");
  const ValueId value = region.add_value(name.text, {});
  values_[name.text] = value;
  return value;
}

Result<ValueId> Parser::lookup(const Token& name) const {
  const auto found = values_.find(name.text);
  if (found == values_.end()) return error_at(name, "a value that is defined");
  return found->second;
}

Status Parser::parse_arguments(Region& region) {
  ABQ_RETURN_IF_ERROR(expect("("));
  if (accept(")")) return {};
  do {
    ABQ_ASSIGN_OR_RETURN(const Token name,
                         expect_kind(TokenKind::kValueName, "an argument (%name)"));
    ABQ_ASSIGN_OR_RETURN(const ValueId value, define(region, name));
    region.arguments.push_back(value);
    ABQ_RETURN_IF_ERROR(expect(":"));
    ABQ_ASSIGN_OR_RETURN(region.values[static_cast<size_t>(value)].type, parse_type());
  } while (accept(","));
  return expect(")");
}

Status Parser::parse_result_names(std::vector<Token>& names) {
  ABQ_RETURN_IF_ERROR(expect("("));
  if (accept(")")) return {};
  do {
    ABQ_ASSIGN_OR_RETURN(Token name, expect_kind(TokenKind::kValueName, "a result (%name)"));
    names.push_back(std::move(name));
  } while (accept(","));
  return expect(")");
}

// region := kind '@'name '(' arguments ')' '->' '(' results ')' '{' {node} '}'
Status Parser::parse_region(RegionKind kind, Module& module) {
  advance();
  Region region;
  region.kind = kind;
  values_.clear();
  ABQ_ASSIGN_OR_RETURN(const Token name,
                       expect_kind(TokenKind::kTensorName, "a region name (@name)"));
  region.name = name.text;
  ABQ_RETURN_IF_ERROR(parse_arguments(region));
  ABQ_RETURN_IF_ERROR(expect("->"));
  std::vector<Token> results;
  ABQ_RETURN_IF_ERROR(parse_result_names(results));
  ABQ_RETURN_IF_ERROR(expect("{"));
  while (!accept("}"))
    ABQ_RETURN_IF_ERROR(parse_node(region));
  for (const Token& result : results) {
    ABQ_ASSIGN_OR_RETURN(const ValueId value, lookup(result));
    region.results.push_back(value);
  }
  module.regions.push_back(std::move(region));
  return {};
}

Status Parser::parse_operands(Node& node) {
  if (node.op == Op::kWeight) {
    ABQ_ASSIGN_OR_RETURN(const Token tensor,
                         expect_kind(TokenKind::kTensorName, "a tensor name (@name)"));
    node.attributes["tensor"] = tensor.text;
    return {};
  }
  ABQ_ASSIGN_OR_RETURN(Token name, expect_kind(TokenKind::kString, "the node's name (a string)"));
  node.name = std::move(name.text);
  if (token_.kind != TokenKind::kValueName) return {};
  do {
    ABQ_ASSIGN_OR_RETURN(const Token operand,
                         expect_kind(TokenKind::kValueName, "an operand (%name)"));
    ABQ_ASSIGN_OR_RETURN(const ValueId value, lookup(operand));
    node.operands.push_back(value);
  } while (accept(","));
  return {};
}

// node := '%'name '=' mnemonic ('@'tensor | string [operands]) [attributes] ':' type
Status Parser::parse_node(Region& region) {
  ABQ_ASSIGN_OR_RETURN(const Token result,
                       expect_kind(TokenKind::kValueName, "a node (%name = ...) or '}'"));
  ABQ_RETURN_IF_ERROR(expect("="));
  const std::optional<Op> op =
      token_.kind == TokenKind::kWord ? op_from_mnemonic(token_.text) : std::nullopt;
  if (!op) return error("an op of the op table");
  advance();
  Node node;
  node.op = *op;
  ABQ_RETURN_IF_ERROR(parse_operands(node));
  ABQ_RETURN_IF_ERROR(parse_attributes(node.attributes));
  // An integer may stand where the op wants a float: `eps = 1`.
  for (const OpInfo::Attribute& attribute : op_info(*op).attributes) {
    const auto found = node.attributes.find(std::string(attribute.name));
    if (attribute.type != "float" || found == node.attributes.end()) continue;
    if (const auto* integer = std::get_if<int64_t>(&found->second)) {
      found->second = static_cast<double>(*integer);
    }
  }
  ABQ_RETURN_IF_ERROR(expect(":"));
  // Defined after its operands were looked up: a node cannot read itself.
  ABQ_ASSIGN_OR_RETURN(node.result, define(region, result));
  ABQ_ASSIGN_OR_RETURN(region.values[static_cast<size_t>(node.result)].type, parse_type());
  region.nodes.push_back(std::move(node));
  return {};
}

// module := 'module' '@'name [attributes] {tensor | region}
Result<Module> Parser::parse_module() {
  if (!at_word("module")) return error("'module'");
  advance();
  Module module;
  ABQ_ASSIGN_OR_RETURN(const Token name,
                       expect_kind(TokenKind::kTensorName, "the module's name (@name)"));
  module.name = name.text;
  ABQ_RETURN_IF_ERROR(parse_attributes(module.attributes));
  while (token_.kind != TokenKind::kEnd) {
    if (at_word("tensor")) {
      ABQ_RETURN_IF_ERROR(parse_tensor(module));
    } else if (at_word("embed")) {
      ABQ_RETURN_IF_ERROR(parse_region(RegionKind::kEmbed, module));
    } else if (at_word("block")) {
      ABQ_RETURN_IF_ERROR(parse_region(RegionKind::kBlock, module));
    } else if (at_word("head")) {
      ABQ_RETURN_IF_ERROR(parse_region(RegionKind::kHead, module));
    } else {
      return error("tensor, embed, block or head");
    }
  }
  return module;
}

}  // namespace

Result<Module> parse(std::string_view text, std::string_view name) {
  return Parser(text, name).parse_module();
}

Result<Type> parse_type(std::string_view text) {
  Parser parser(text, "type");
  ABQ_ASSIGN_OR_RETURN(Type type, parser.parse_type());
  ABQ_RETURN_IF_ERROR(parser.expect_end());
  return type;
}

}  // namespace abq::ir
