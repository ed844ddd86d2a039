// JSON input that cannot be trusted. Private to the folder: only .cpp files include this.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "support/status.h"

namespace abq::frontend {

using Json = nlohmann::json;

// Parses one JSON object. Errors carry `code` and start with `name`: a syntax error (with its line
// and column), a key that occurs twice in one object (JSON libraries silently keep one of them),
// more than 64 levels of nesting, or a value that is not an object.
Result<Json> parse_json_object(std::string_view text, std::string_view name, StatusCode code);

// A value as a message shows it: scalars as written (shortened), else "an array" or "an object".
std::string describe(const Json& value);

// Reads fields of one JSON object; every error is InvalidArgument as
// "<subject>: <key>: expected ..., got ...". A field that is null counts as absent.
class FieldReader {
 public:
  FieldReader(const Json& object, std::string subject)
      : object_(object), subject_(std::move(subject)) {}

  const std::string& subject() const { return subject_; }
  bool has(const char* key) const { return find(key) != nullptr; }
  // The field, or nullptr when it is absent or null.
  const Json* find(const char* key) const;

  Result<int64_t> integer(const char* key, int64_t min, int64_t max) const;
  Result<int64_t> integer_or(const char* key, int64_t min, int64_t max, int64_t fallback) const;
  Result<double> number(const char* key, double min, double max) const;
  Result<double> number_or(const char* key, double min, double max, double fallback) const;
  Result<bool> boolean_or(const char* key, bool fallback) const;
  Result<std::string> text(const char* key) const;
  // A nested object; its reader's subject is "<subject>: <key>".
  Result<FieldReader> object(const char* key) const;

 private:
  Status missing(const char* key, std::string_view expected) const;
  Status wrong(const char* key, std::string_view expected, const Json& got) const;

  const Json& object_;
  std::string subject_;
};

}  // namespace abq::frontend
