#include "frontend/json.h"

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <vector>

namespace abq::frontend {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxShownCharacters = 60;

// Reads JSON without building it and finds what the built value no longer shows. (The library's
// parser with a callback finds the same, in time quadratic in the number of members.)
struct Watch : Json::json_sax_t {
  std::vector<std::unordered_set<std::string>> keys;  // of each open object; empty for an array
  std::optional<std::string> duplicate;
  bool too_deep = false;
  size_t error_byte = 0;
  std::string number_error;  // a number out of double's range

  bool open() {
    too_deep = keys.size() > kMaxDepth;
    keys.emplace_back();
    return !too_deep;
  }
  bool close() {
    keys.pop_back();
    return true;
  }
  bool start_object(size_t) override { return open(); }
  bool start_array(size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    if (!duplicate && !keys.back().insert(name).second) duplicate = name;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    error_byte = position;
    if (dynamic_cast<const Json::parse_error*>(&error) == nullptr) number_error = error.what();
    return false;
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(Json::binary_t&) override { return true; }
};

std::string line_and_column(std::string_view text, size_t byte) {
  const std::string_view before = text.substr(0, std::min(byte > 0 ? byte - 1 : 0, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column = newline == std::string_view::npos ? before.size() + 1  //
                                                          : before.size() - newline;
  return fmt::format("line {}, column {}", line, column);
}

}  // namespace

std::string describe(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  std::string shown = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (shown.size() > kMaxShownCharacters) shown = shown.substr(0, kMaxShownCharacters) + "...";
  return shown;
}

Result<Json> parse_json_object(std::string_view text, std::string_view name, StatusCode code) {
  Watch watch;
  const bool parsed = Json::sax_parse(text.begin(), text.end(), &watch);
  if (watch.too_deep) {
    return Status(code, fmt::format("{}: JSON nested deeper than {} levels", name, kMaxDepth));
  }
  if (!watch.number_error.empty()) {
    return Status(code, fmt::format("{}: not usable JSON: {}", name, watch.number_error));
  }
  if (!parsed) {
    return Status(code, fmt::format("{}: not valid JSON at {}", name,
                                    line_and_column(text, watch.error_byte)));
  }
  if (watch.duplicate) {
    return Status(code, fmt::format("{}: key {} occurs twice in one object", name,
                                    describe(Json(*watch.duplicate))));
  }
  Json value = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) {
    return Status(code, fmt::format("{}: expected a JSON object, got {}", name, describe(value)));
  }
  return value;
}

const Json* FieldReader::find(const char* key) const {
  const auto field = object_.find(key);
  return field == object_.end() || field->is_null() ? nullptr : &*field;
}

Status FieldReader::missing(const char* key, std::string_view expected) const {
  return invalid_argument("{}: {}: expected {}, but the field is missing", subject_, key, expected);
}

Status FieldReader::wrong(const char* key, std::string_view expected, const Json& got) const {
  return invalid_argument("{}: {}: expected {}, got {}", subject_, key, expected, describe(got));
}

Result<int64_t> FieldReader::integer(const char* key, int64_t min, int64_t max) const {
  const std::string expected = fmt::format("an integer from {} to {}", min, max);
  const Json* field = find(key);
  if (field == nullptr) return missing(key, expected);
  if (!field->is_number_integer()) return wrong(key, expected, *field);
  // Unsigned values beyond int64 would wrap in get<int64_t>.
  if (field->is_number_unsigned() && field->get<uint64_t>() > static_cast<uint64_t>(max)) {
    return wrong(key, expected, *field);
  }
  const auto value = field->get<int64_t>();
  if (value < min || value > max) return wrong(key, expected, *field);
  return value;
}

Result<int64_t> FieldReader::integer_or(const char* key, int64_t min, int64_t max,
                                        int64_t fallback) const {
  if (!has(key)) return fallback;
  return integer(key, min, max);
}

Result<double> FieldReader::number(const char* key, double min, double max) const {
  const std::string expected = fmt::format("a number from {} to {}", min, max);
  const Json* field = find(key);
  if (field == nullptr) return missing(key, expected);
  if (!field->is_number()) return wrong(key, expected, *field);
  const auto value = field->get<double>();
  if (!(value >= min && value <= max)) return wrong(key, expected, *field);
  return value;
}

Result<double> FieldReader::number_or(const char* key, double min, double max,
                                      double fallback) const {
  if (!has(key)) return fallback;
  return number(key, min, max);
}

Result<bool> FieldReader::boolean_or(const char* key, bool fallback) const {
  const Json* field = find(key);
  if (field == nullptr) return fallback;
  if (!field->is_boolean()) return wrong(key, "true or false", *field);
  return field->get<bool>();
}

Result<std::string> FieldReader::text(const char* key) const {
  const Json* field = find(key);
  if (field == nullptr) return missing(key, "a string");
  if (!field->is_string()) return wrong(key, "a string", *field);
  return field->get<std::string>();
}

Result<FieldReader> FieldReader::object(const char* key) const {
  const Json* field = find(key);
  if (field == nullptr) return missing(key, "an object");
  if (!field->is_object()) return wrong(key, "an object", *field);
  return FieldReader(*field, fmt::format("{}: {}", subject_, key));
}

}  // namespace abq::frontend
