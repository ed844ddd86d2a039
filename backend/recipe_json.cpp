#include <google/protobuf/util/json_util.h>

#include "backend/backend.h"

namespace abq::backend {

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

}  // namespace abq::backend
