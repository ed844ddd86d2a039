#include <google/protobuf/util/json_util.h>

#include "backend/backend.h"

namespace abq::backend {
namespace {

std::string to_json(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  ABQ_CHECK(google::protobuf::util::MessageToJsonString(message, &json, options).ok());
  return json;
}

}  // namespace

Result<quant::Recipe> recipe_from_json(const std::string& json, const std::string& name) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = false;
  proto::Recipe recipe;
  const auto parsed = google::protobuf::util::JsonStringToMessage(json, &recipe, options);
  if (!parsed.ok()) return invalid_argument("{}: {}", name, parsed.message().ToString());
  const Result<quant::Recipe> converted = from_proto(recipe);
  if (!converted.ok()) return converted.status().with_context(name);
  return converted;
}

std::string recipe_to_json(const quant::Recipe& recipe) {
  proto::Recipe stored;
  to_proto(recipe, &stored);
  return to_json(stored);
}

std::string correction_to_json(const proto::CorrectionSettings& settings) {
  return to_json(settings);
}

}  // namespace abq::backend
