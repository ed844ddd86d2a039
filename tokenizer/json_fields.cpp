#include "tokenizer/json_fields.h"

#include <limits>
#include <nlohmann/json.hpp>

namespace abq::tokenizer {

using nlohmann::json;

Result<json> parse_json(std::string_view bytes, std::string_view name) {
  try {
    return json::parse(bytes);
  } catch (const json::parse_error& error) {
    return corrupt("{}: not JSON: it breaks at byte {} of {}", name, error.byte, bytes.size());
  } catch (const std::exception& error) {  // a number beyond every range, no memory left
    return corrupt("{}: cannot be read as JSON: {}", name, error.what());
  }
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  if (!value_->is_object()) return std::nullopt;
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) return std::nullopt;
  const bool at_root = path_.ends_with(": ");
  return JsonNode(*found, fmt::format("{}{}{}", path_, at_root ? "" : ".", key));
}

Result<JsonNode> JsonNode::member(std::string_view key) const {
  ABQ_RETURN_IF_ERROR(expect_object());
  std::optional<JsonNode> found = find(key);
  if (!found) return corrupt("{}: the field \"{}\" is missing", path_, key);
  return *std::move(found);
}

Status JsonNode::wrong_type(std::string_view expected) const {
  return corrupt("{}: expected {}, got {}", path_, expected, value_->type_name());
}

Result<std::string> JsonNode::as_string() const {
  if (!value_->is_string()) return wrong_type("a string");
  return value_->get_ref<const std::string&>();
}

Result<bool> JsonNode::as_bool() const {
  if (!value_->is_boolean()) return wrong_type("true or false");
  return value_->get<bool>();
}

Result<int64_t> JsonNode::as_integer() const {
  if (!value_->is_number_integer()) return wrong_type("an integer");
  if (value_->is_number_unsigned() &&
      value_->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return corrupt("{}: {} is too large for an integer", path_, value_->get<uint64_t>());
  }
  return value_->get<int64_t>();
}

Result<std::vector<JsonNode>> JsonNode::as_array() const {
  if (!value_->is_array()) return wrong_type("an array");
  std::vector<JsonNode> elements;
  elements.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) {
    elements.emplace_back((*value_)[i], fmt::format("{}[{}]", path_, i));
  }
  return elements;
}

Status JsonNode::expect_object() const {
  return value_->is_object() ? Status() : wrong_type("an object");
}

Result<std::string> JsonNode::string_member(std::string_view key) const {
  ABQ_ASSIGN_OR_RETURN(const JsonNode node, member(key));
  return node.as_string();
}

Result<std::string> JsonNode::string_or(std::string_view key, std::string_view otherwise) const {
  const std::optional<JsonNode> node = find(key);
  return node ? node->as_string() : Result<std::string>(std::string(otherwise));
}

Result<bool> JsonNode::bool_or(std::string_view key, bool otherwise) const {
  const std::optional<JsonNode> node = find(key);
  return node ? node->as_bool() : Result<bool>(otherwise);
}

Result<Regex> pattern_member(const JsonNode& node) {
  ABQ_ASSIGN_OR_RETURN(const JsonNode pattern, node.member("pattern"));
  ABQ_RETURN_IF_ERROR(pattern.expect_object());
  if (const std::optional<JsonNode> text = pattern.find("String")) {
    ABQ_ASSIGN_OR_RETURN(const std::string value, text->as_string());
    Result<Regex> regex = Regex::literal(value);
    return regex.ok() ? regex : regex.status().with_context(pattern.path());
  }
  ABQ_ASSIGN_OR_RETURN(const std::string value, pattern.string_member("Regex"));
  Result<Regex> regex = Regex::compile(value);
  return regex.ok() ? regex : regex.status().with_context(pattern.path());
}

}  // namespace abq::tokenizer
