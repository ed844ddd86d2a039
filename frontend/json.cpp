#include "frontend/json.h"

#include <algorithm>
#include <set>
#include <vector>

namespace abq::frontend {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxShownCharacters = 60;

// Watches the parser for what the finished value no longer shows.
struct ParseWatch {
  std::vector<std::set<std::string>> keys;  // by depth of the open object
  std::string duplicate;
  bool has_duplicate = false;
  bool too_deep = false;

  // False drops the value (the parse goes on, without recursion).
  bool operator()(int depth, Json::parse_event_t event, const Json& value) {
    if (depth > kMaxDepth) {
      too_deep = true;
      return false;
    }
    const size_t level = static_cast<size_t>(depth);
    if (event == Json::parse_event_t::object_start) {
      keys.resize(level + 1);
      keys[level].clear();
    } else if (event == Json::parse_event_t::key && !has_duplicate) {
      // Inside an object the parser counts one level more than at its start.
      const auto& key = value.get_ref<const std::string&>();
      if (!keys[level - 1].insert(key).second) {
        has_duplicate = true;
        duplicate = key;
      }
    }
    return true;
  }
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
  ParseWatch watch;
  Json value;
  try {
    value = Json::parse(text.begin(), text.end(), std::ref(watch));
  } catch (const Json::parse_error& error) {
    return Status(code,
                  fmt::format("{}: not valid JSON at {}", name, line_and_column(text, error.byte)));
  } catch (const Json::exception& error) {
    // Numbers out of double's range.
    return Status(code, fmt::format("{}: not usable JSON: {}", name, error.what()));
  }
  if (watch.too_deep) {
    return Status(code, fmt::format("{}: JSON nested deeper than {} levels", name, kMaxDepth));
  }
  if (watch.has_duplicate) {
    return Status(code, fmt::format("{}: key {} occurs twice in one object", name,
                                    describe(Json(watch.duplicate))));
  }
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
