// Reading of JSON fields with errors that name the field.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/status.h"
#include "tokenizer/regex.h"

namespace abq::tokenizer {

// Corrupt with the position where `bytes` stop being JSON; `name` is the subject.
Result<nlohmann::json> parse_json(std::string_view bytes, std::string_view name);

// A value and its path in the file ("tokenizer.json: model.merges"), the subject of every error.
// All errors are Corrupt. The document must outlive it.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string path)
      : value_(&value), path_(std::move(path)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& path() const { return path_; }

  // A member of an object; null counts as absent.
  std::optional<JsonNode> find(std::string_view key) const;
  Result<JsonNode> member(std::string_view key) const;

  Result<std::string> as_string() const;
  Result<bool> as_bool() const;
  Result<int64_t> as_integer() const;
  Result<std::vector<JsonNode>> as_array() const;
  Status expect_object() const;

  Result<std::string> string_member(std::string_view key) const;
  Result<std::string> string_or(std::string_view key, std::string_view otherwise) const;
  Result<bool> bool_or(std::string_view key, bool otherwise) const;

 private:
  Status wrong_type(std::string_view expected) const;

  const nlohmann::json* value_;
  std::string path_;
};

// A "pattern" member: {"String": text} or {"Regex": expression}.
Result<Regex> pattern_member(const JsonNode& node);

// Nested "Sequence" components deeper than this are refused: nobody writes them, and recursion
// needs a bound.
inline constexpr int kMaxSequenceDepth = 8;

}  // namespace abq::tokenizer
