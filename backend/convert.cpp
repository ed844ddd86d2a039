#include <cmath>

#include "backend/backend.h"

namespace abq::backend {
namespace {

Result<quant::LayerOverride> override_from_proto(const proto::LayerOverride& from) {
  if (from.pattern().empty()) return invalid_argument("pattern is missing");
  const Result<quant::Scheme> scheme = quant::parse_scheme(from.scheme());
  if (!scheme.ok()) return scheme.status().with_context(from.pattern() + ": scheme");
  if (scheme->kv_bits != 16 || scheme->query_bits != 16) {
    return invalid_argument(
        "{}: scheme {}: cache and query bits hold for the whole model; give them in the recipe's "
        "scheme",
        from.pattern(), from.scheme());
  }
  return quant::LayerOverride{from.pattern(), *scheme};
}

void to_proto(const quant::Quality& quality, proto::Quality* out) {
  out->set_sqnr_db(quality.sqnr_db);
  out->set_cosine(quality.cosine);
  out->set_max_error(quality.max_error);
}

quant::Quality from_proto(const proto::Quality& quality) {
  return {quality.sqnr_db(), quality.cosine(), quality.max_error()};
}

void to_proto(const quant::LayerReport& layer, proto::LayerReport* out) {
  out->set_name(layer.name);
  out->set_scheme(layer.scheme);
  out->set_n(layer.n);
  out->set_k(layer.k);
  out->set_encoding(layer.encoding);
  out->set_packed_bytes(layer.packed_bytes);
  out->set_parameter_bytes(layer.parameter_bytes);
  out->set_kernel(layer.kernel);
  to_proto(layer.weight, out->mutable_weight());
  if (layer.output) to_proto(*layer.output, out->mutable_output());
  out->set_clip_low(layer.clip_low);
  out->set_clip_high(layer.clip_high);
  out->set_outlier_ratio(layer.outlier_ratio);
}

quant::LayerReport from_proto(const proto::LayerReport& layer) {
  quant::LayerReport out;
  out.name = layer.name();
  out.scheme = layer.scheme();
  out.n = layer.n();
  out.k = layer.k();
  out.encoding = layer.encoding();
  out.packed_bytes = layer.packed_bytes();
  out.parameter_bytes = layer.parameter_bytes();
  out.kernel = layer.kernel();
  out.weight = from_proto(layer.weight());
  if (layer.has_output()) out.output = from_proto(layer.output());
  out.clip_low = layer.clip_low();
  out.clip_high = layer.clip_high();
  out.outlier_ratio = layer.outlier_ratio();
  return out;
}

}  // namespace

void to_proto(const quant::Recipe& recipe, proto::Recipe* out) {
  out->Clear();
  out->set_scheme(quant::to_string(recipe.scheme));
  out->set_method(recipe.method);
  out->set_clip_search(recipe.clip_search);
  out->set_smooth_alpha(recipe.smooth_alpha);
  out->mutable_calibration()->set_windows(recipe.calibration.windows);
  out->mutable_calibration()->set_context(recipe.calibration.context);
  for (const quant::LayerOverride& override_ : recipe.overrides) {
    proto::LayerOverride* added = out->add_overrides();
    added->set_pattern(override_.pattern);
    added->set_scheme(quant::to_string(override_.scheme));
  }
  out->set_seed(recipe.seed);
}

Result<quant::Recipe> from_proto(const proto::Recipe& recipe) {
  quant::Recipe out;
  if (recipe.scheme().empty())
    return invalid_argument("scheme is missing; give one such as \"w4a8-g128\"");
  ABQ_ASSIGN_OR_RETURN(out.scheme, quant::parse_scheme(recipe.scheme()));
  if (!recipe.method().empty()) out.method = recipe.method();
  out.clip_search = recipe.clip_search();
  if (recipe.has_smooth_alpha()) out.smooth_alpha = recipe.smooth_alpha();
  if (!(out.smooth_alpha >= 0 && out.smooth_alpha <= 1))
    return invalid_argument("smooth_alpha is {}, expected 0 to 1", out.smooth_alpha);
  const proto::CalibrationSettings& calibration = recipe.calibration();
  if (calibration.windows() < 0 || calibration.context() < 0) {
    return invalid_argument("calibration: {} windows of {} tokens, expected positive numbers",
                            calibration.windows(), calibration.context());
  }
  if (calibration.windows() > 0) out.calibration.windows = calibration.windows();
  if (calibration.context() > 0) out.calibration.context = calibration.context();
  for (int i = 0; i < recipe.overrides_size(); ++i) {
    Result<quant::LayerOverride> added = override_from_proto(recipe.overrides(i));
    if (!added.ok()) return added.status().with_context(fmt::format("overrides[{}]", i));
    out.overrides.push_back(std::move(added).value());
  }
  out.seed = recipe.seed();
  return out;
}

void to_proto(const quant::Report& report, proto::Report* out) {
  out->Clear();
  for (const quant::LayerReport& layer : report.layers)
    to_proto(layer, out->add_layers());
  for (const std::string& note : report.notes)
    out->add_notes(note);
  out->set_calibration_tokens(report.calibration_tokens);
  out->set_block_linear_bits(report.block_linear_bits);
  out->set_file_bits(report.file_bits);
}

quant::Report from_proto(const proto::Report& report) {
  quant::Report out;
  for (const proto::LayerReport& layer : report.layers())
    out.layers.push_back(from_proto(layer));
  out.notes.assign(report.notes().begin(), report.notes().end());
  out.calibration_tokens = report.calibration_tokens();
  out.block_linear_bits = report.block_linear_bits();
  out.file_bits = report.file_bits();
  return out;
}

}  // namespace abq::backend
