#include "tools/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "backend/backend.h"
#include "support/checksum.h"
#include "support/version.h"

namespace abq::tools {
namespace {

using Json = nlohmann::json;

std::string windows_digest(const std::vector<std::vector<int32_t>>& windows) {
  Hasher hasher;
  for (const std::vector<int32_t>& window : windows) {
    // The length keeps a window apart from its neighbours.
    const int64_t tokens = std::ssize(window);
    hasher.update(std::as_bytes(std::span(&tokens, 1)));
    hasher.update(std::as_bytes(std::span(window)));
  }
  return hasher.digest128();
}

void compare(std::string_view what, const std::string& now, const std::string& then,
             std::vector<std::string>& lines) {
  if (now != then) lines.push_back(fmt::format("{} is {}, was {}", what, now, then));
}

// "/overrides/0/scheme" as people write it: "overrides[0].scheme".
std::string field_name(const std::string& pointer) {
  std::string name;
  for (size_t begin = 1; begin < pointer.size();) {
    const size_t end = std::min(pointer.find('/', begin), pointer.size());
    const std::string part = pointer.substr(begin, end - begin);
    const bool index =
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    name += index ? "[" + part + "]" : (name.empty() ? part : "." + part);
    begin = end + 1;
  }
  return name;
}

// Text without quotes: JSON writes 64-bit integers in quotes, too.
std::string value_text(const Json& fields, const std::string& pointer) {
  const auto field = fields.find(pointer);
  if (field == fields.end()) return "not given";
  return field->is_string() ? field->get<std::string>() : field->dump();
}

void compare_recipes(const std::string& now, const std::string& then,
                     std::vector<std::string>& lines) {
  if (now == then) return;
  const Json new_recipe = Json::parse(now, nullptr, false);
  const Json old_recipe = Json::parse(then, nullptr, false);
  if (!new_recipe.is_object() || !old_recipe.is_object()) {
    lines.push_back("recipe: another one");
    return;
  }
  const Json new_fields = new_recipe.flatten();
  const Json old_fields = old_recipe.flatten();
  std::set<std::string> pointers;
  for (const auto& [pointer, value] : new_fields.items())
    pointers.insert(pointer);
  for (const auto& [pointer, value] : old_fields.items())
    pointers.insert(pointer);
  for (const std::string& pointer : pointers) {
    compare("recipe: " + field_name(pointer), value_text(new_fields, pointer),
            value_text(old_fields, pointer), lines);
  }
}

std::string digest_of(const proto::Fingerprint& fingerprint, const std::string& name) {
  for (const proto::Fingerprint::Input& input : fingerprint.inputs())
    if (input.name() == name) return input.digest();
  return {};
}

void compare_inputs(const proto::Fingerprint& now, const proto::Fingerprint& then,
                    std::vector<std::string>& lines) {
  const size_t before = lines.size();
  for (const proto::Fingerprint::Input& input : now.inputs()) {
    const std::string old_digest = digest_of(then, input.name());
    if (old_digest.empty())
      lines.push_back(input.name() + ": was not there");
    else if (old_digest != input.digest())
      lines.push_back(input.name() + ": other contents");
  }
  for (const proto::Fingerprint::Input& input : then.inputs())
    if (digest_of(now, input.name()).empty()) lines.push_back(input.name() + ": is gone");
  // Files that differ have other weights more often than not; this is for those that do not show.
  if (now.weights_digest() != then.weights_digest() && lines.size() == before)
    lines.push_back("weights of the checkpoint: other values");
}

}  // namespace

proto::Fingerprint make_fingerprint(const frontend::Checkpoint& checkpoint,
                                    const quant::Recipe& recipe,
                                    const std::vector<std::vector<int32_t>>& calibration_windows,
                                    std::string_view device,
                                    passes::StreamOptions::Precision precision) {
  proto::Fingerprint fingerprint;
  fingerprint.set_tool_version(std::string(version()));
  for (const frontend::Checkpoint::InputFile& file : checkpoint.inputs) {
    proto::Fingerprint::Input& input = *fingerprint.add_inputs();
    input.set_name(file.name);
    input.set_digest(file.digest);
  }
  fingerprint.set_weights_digest(frontend::weights_digest(checkpoint.module));
  fingerprint.set_recipe_json(backend::recipe_to_json(recipe));
  fingerprint.set_calibration_digest(windows_digest(calibration_windows));
  fingerprint.set_device(std::string(device));
  fingerprint.set_stream_precision(
      precision == passes::StreamOptions::Precision::kBFloat16 ? "bf16" : "float32");
  return fingerprint;
}

std::vector<std::string> differences(const proto::Fingerprint& now,
                                     const proto::Fingerprint& then) {
  std::vector<std::string> lines;
  compare("abq", now.tool_version(), then.tool_version(), lines);
  compare_inputs(now, then, lines);
  const size_t before_recipe = lines.size();
  compare_recipes(now.recipe_json(), then.recipe_json(), lines);
  // Other windows are other tokens; said only where the recipe does not say it already.
  const bool windows_differ =
      std::any_of(lines.begin() + static_cast<std::ptrdiff_t>(before_recipe), lines.end(),
                  [](const std::string& line) { return line.starts_with("recipe: calibration."); });
  if (now.calibration_digest() != then.calibration_digest() && !windows_differ)
    lines.push_back("calibration text: other tokens");
  compare("device", now.device(), then.device(), lines);
  compare("precision of the streams (--mem-budget)", now.stream_precision(),
          then.stream_precision(), lines);
  return lines;
}

std::string digest(const proto::Fingerprint& fingerprint) {
  const std::string bytes = fingerprint.SerializeAsString();
  return digest128(std::as_bytes(std::span(bytes)));
}

}  // namespace abq::tools
