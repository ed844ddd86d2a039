// quant::Recipe <-> proto::Recipe.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "backend/backend.h"
#include "backend/correction_convert.h"

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

// Spellings in the order of quant::ResidualRotation.
constexpr std::array<std::string_view, 3> kResidualNames = {"hadamard", "orthogonal", "none"};

void to_proto(const quant::RotationSettings& rotation, proto::RotationSettings* out) {
  out->set_residual(std::string(kResidualNames[static_cast<size_t>(rotation.residual)]));
  out->set_value_output(rotation.value_output);
  out->set_query_key(rotation.query_key);
  out->set_down(rotation.down);
  out->set_down_size(rotation.down_size);
  out->set_half_tables(rotation.half_tables);
}

Result<quant::RotationSettings> from_proto(const proto::RotationSettings& rotation) {
  quant::RotationSettings out;
  if (!rotation.residual().empty()) {
    ABQ_ASSIGN_OR_RETURN(out.residual, parse_residual_rotation(rotation.residual()));
  }
  if (rotation.has_value_output()) out.value_output = rotation.value_output();
  if (rotation.has_query_key()) out.query_key = rotation.query_key();
  if (rotation.has_down()) out.down = rotation.down();
  if (rotation.down_size() < 0 || rotation.down_size() == 1)
    return invalid_argument(
        "rotation: down_size is {}, expected 2 or more, or 0 to have one chosen; \"down\": false "
        "leaves the transform out",
        rotation.down_size());
  out.down_size = rotation.down_size();
  if (rotation.has_half_tables()) out.half_tables = rotation.half_tables();
  return out;
}

}  // namespace

Result<quant::ResidualRotation> parse_residual_rotation(std::string_view name) {
  const auto found = std::find(kResidualNames.begin(), kResidualNames.end(), name);
  if (found == kResidualNames.end())
    return invalid_argument("rotation: residual is '{}', expected {}", name,
                            fmt::join(kResidualNames, ", "));
  return static_cast<quant::ResidualRotation>(found - kResidualNames.begin());
}

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
  if (recipe.rotation) to_proto(*recipe.rotation, out->mutable_rotation());
  // Methods that learn nothing have nothing to say here.
  if (recipe.learned()) to_proto(recipe.correction, out->mutable_correction());
  if (recipe.method == "best") to_proto(recipe.distillation, out->mutable_distillation());
}

Result<quant::Recipe> from_proto(const proto::Recipe& recipe) {
  quant::Recipe out;
  if (recipe.scheme().empty())
    return invalid_argument("scheme is missing; give one such as \"w4a8-g128\"");
  ABQ_ASSIGN_OR_RETURN(out.scheme, quant::parse_scheme(recipe.scheme()));
  out.method = recipe.method();
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
  if (recipe.has_rotation()) {
    ABQ_ASSIGN_OR_RETURN(out.rotation, from_proto(recipe.rotation()));
  }
  ABQ_ASSIGN_OR_RETURN(out.correction, from_proto(recipe.correction()));
  ABQ_ASSIGN_OR_RETURN(out.distillation, from_proto(recipe.distillation()));
  return out;
}

}  // namespace abq::backend
