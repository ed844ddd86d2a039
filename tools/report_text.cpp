#include "tools/report_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "backend/backend.h"
#include "tools/allocation_text.h"
#include "tools/block_report_text.h"
#include "tools/console.h"

namespace abq::tools {
namespace {

using Json = nlohmann::ordered_json;

std::string decibels(double value) {
  return std::isinf(value) ? std::string("exact") : fmt::format("{:.2f}", value);
}

// JSON has no infinity: an exact copy has no SQNR.
Json number_or_null(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json quality_json(const proto::Quality& quality) {
  return {{"sqnr_db", number_or_null(quality.sqnr_db())},
          {"cosine", quality.cosine()},
          {"max_error", quality.max_error()}};
}

// Codes with their padding, scales and zero points.
double bits_per_weight(const proto::LayerReport& layer) {
  const double weights = static_cast<double>(layer.n()) * static_cast<double>(layer.k());
  return 8.0 * static_cast<double>(layer.packed_bytes() + layer.parameter_bytes()) / weights;
}

Json layer_json(const proto::LayerReport& layer) {
  Json json = {{"name", layer.name()},
               {"scheme", layer.scheme()},
               {"n", layer.n()},
               {"k", layer.k()},
               {"encoding", layer.encoding()},
               {"packed_bytes", layer.packed_bytes()},
               {"parameter_bytes", layer.parameter_bytes()},
               {"bits_per_weight", bits_per_weight(layer)},
               {"kernel", layer.kernel()},
               {"clip_low", layer.clip_low()},
               {"clip_high", layer.clip_high()},
               {"weight", quality_json(layer.weight())}};
  if (layer.has_output()) {
    json["output"] = quality_json(layer.output());
    json["outlier_ratio"] = number_or_null(layer.outlier_ratio());
  }
  if (layer.has_rounding())
    json["rounding"] = {{"damping", layer.rounding().damping()},
                        {"loss", number_or_null(layer.rounding().loss())},
                        {"nearest_loss", number_or_null(layer.rounding().nearest_loss())}};
  return json;
}

Json model_json(const proto::ModelInfo& model) {
  return {{"name", model.name()},
          {"family", model.family()},
          {"layers", model.layers()},
          {"hidden_size", model.hidden_size()},
          {"intermediate_size", model.intermediate_size()},
          {"heads", model.heads()},
          {"kv_heads", model.kv_heads()},
          {"head_dim", model.head_dim()},
          {"vocab_size", model.vocab_size()},
          {"context", model.context()},
          {"weights", model.weights()}};
}

std::string calibration_words(const proto::Plan& plan) {
  const int64_t tokens = plan.report().calibration_tokens();
  if (tokens == 0) return "not calibrated";
  return fmt::format("{} tokens ({} windows of {})", tokens, plan.recipe().calibration().windows(),
                     plan.recipe().calibration().context());
}

Json recipe_json(const proto::Recipe& recipe) {
  Json overrides = Json::array();
  for (const proto::LayerOverride& override : recipe.overrides()) {
    overrides.push_back({{"pattern", override.pattern()}, {"scheme", override.scheme()}});
  }
  Json json = {{"scheme", recipe.scheme()},
               {"method", recipe.method()},
               {"clip_search", recipe.clip_search()},
               {"smooth_alpha", recipe.smooth_alpha()},
               {"calibration_windows", recipe.calibration().windows()},
               {"calibration_context", recipe.calibration().context()},
               {"seed", recipe.seed()},
               {"overrides", overrides}};
  if (recipe.has_rotation()) {
    json["rotation"] = {{"residual", recipe.rotation().residual()},
                        {"value_output", recipe.rotation().value_output()},
                        {"query_key", recipe.rotation().query_key()},
                        {"down", recipe.rotation().down()},
                        {"down_size", recipe.rotation().down_size()},
                        {"half_tables", recipe.rotation().half_tables()}};
  }
  if (recipe.has_correction()) {
    json["correction"] = Json::parse(backend::correction_to_json(recipe.correction()));
  }
  if (recipe.has_distillation()) {
    json["distillation"] = {{"epochs", recipe.distillation().epochs()},
                            {"batch", recipe.distillation().batch()},
                            {"step_rate", recipe.distillation().step_rate()},
                            {"norm_rate", recipe.distillation().norm_rate()}};
  }
  return json;
}

std::string rotation_text(const proto::RotationReport& rotation) {
  std::string text = fmt::format("{} of {}", rotation.residual(), rotation.width());
  const auto add = [&](std::string_view what, int64_t size) {
    if (size > 0) text += fmt::format(", {} by {}", what, size);
  };
  add("v -> o", rotation.value_output());
  add("online q and k", rotation.query_key());
  add("online before down", rotation.down());
  return text + fmt::format(", seed {}", rotation.seed());
}

Json rotation_json(const proto::RotationReport& rotation) {
  return {{"residual", rotation.residual()},   {"width", rotation.width()},
          {"seed", rotation.seed()},           {"value_output", rotation.value_output()},
          {"query_key", rotation.query_key()}, {"down", rotation.down()}};
}

// Squared output error of the chosen codes over that of rounding to nearest.
double rounding_ratio(const proto::LayerReport& layer) {
  const proto::RoundingReport& rounding = layer.rounding();
  return rounding.nearest_loss() > 0 ? rounding.loss() / rounding.nearest_loss() : 1;
}

// Its loss and that of rounding to nearest.
std::string rounding_columns(const proto::LayerReport& layer) {
  if (!layer.has_rounding()) return fmt::format("{:>9} {:>9}", "-", "-");
  return fmt::format("{:>9.3g} {:>9.3g}", layer.rounding().loss(), layer.rounding().nearest_loss());
}

void print_rounding(const proto::Report& report, bool learned_behind) {
  double sum = 0;
  int64_t layers = 0;
  const proto::LayerReport* worst = nullptr;
  for (const proto::LayerReport& layer : report.layers()) {
    if (!layer.has_rounding()) continue;
    sum += rounding_ratio(layer);
    ++layers;
    if (worst == nullptr || rounding_ratio(layer) > rounding_ratio(*worst)) worst = &layer;
  }
  if (worst == nullptr) return;
  print_out(
      "rounding     squared output error {:.3f} of that to nearest (mean of {} layers), {:.3f} at "
      "most: {}{}\n",
      sum / static_cast<double>(layers), layers, rounding_ratio(*worst), worst->name(),
      learned_behind ? "; before codes were learned" : "");
}

}  // namespace

void print_summary(const proto::Plan& plan, int64_t file_size) {
  const proto::ModelInfo& model = plan.model();
  print_out("model        {}: {} layers, hidden {}, ffn {}, {} heads / {} kv, vocabulary {}\n",
            model.family(), model.layers(), model.hidden_size(), model.intermediate_size(),
            model.heads(), model.kv_heads(), model.vocab_size());
  print_out("scheme       {}, method {}, seed {}\n", plan.recipe().scheme(), plan.recipe().method(),
            plan.recipe().seed());
  if (plan.report().has_rotation())
    print_out("rotation     {}\n", rotation_text(plan.report().rotation()));
  print_out("calibration  {}\n", calibration_words(plan));
  print_out("file         {}, {:.3f} bits per weight of the whole model\n", human_bytes(file_size),
            plan.report().file_bits());
  print_out("linears      {:.3f} true bits per weight (codes, padding, scales, zeros, records)\n",
            plan.report().block_linear_bits());
  const proto::LayerReport* worst = nullptr;
  for (const proto::LayerReport& layer : plan.report().layers()) {
    if (worst == nullptr || layer.weight().sqnr_db() < worst->weight().sqnr_db()) worst = &layer;
  }
  if (worst != nullptr) {
    print_out("worst layer  {}: weight SQNR {} dB\n", worst->name(),
              decibels(worst->weight().sqnr_db()));
  }
  print_rounding(plan.report(), plan.recipe().method() == "best");
  write_out(allocation_summary(plan.report()));
  for (const std::string& note : plan.report().notes())
    print_out("note         {}\n", note);
}

void print_layers(const proto::Plan& plan) {
  if (plan.report().layers().empty()) {
    print_out("no quantized layers\n");
    return;
  }
  const bool calibrated = plan.report().calibration_tokens() > 0;
  size_t width = 5;
  bool rounded = false;
  for (const proto::LayerReport& layer : plan.report().layers()) {
    width = std::max(width, layer.name().size());
    rounded |= layer.has_rounding();
  }
  print_out("{:<{}}  {:>12}  {:<12} {:<8} {:>10} {:>6}  {:>8} {:>8} {:>9}", "layer", width, "N x K",
            "scheme", "encoding", "bytes", "bits", "w SQNR", "w cos", "w max err");
  if (calibrated) print_out("  {:>8} {:>8} {:>8}", "y SQNR", "y cos", "outlier");
  if (rounded) print_out("  {:>9} {:>9}", "loss", "rtn loss");
  print_out("  kernel\n");
  for (const proto::LayerReport& layer : plan.report().layers()) {
    print_out("{:<{}}  {:>12}  {:<12} {:<8} {:>10} {:>6.3f}  {:>8} {:>8.5f} {:>9.3g}", layer.name(),
              width, fmt::format("{} x {}", layer.n(), layer.k()), layer.scheme(), layer.encoding(),
              layer.packed_bytes() + layer.parameter_bytes(), bits_per_weight(layer),
              decibels(layer.weight().sqnr_db()), layer.weight().cosine(),
              layer.weight().max_error());
    if (calibrated) {
      print_out("  {:>8} {:>8.5f} {:>8.1f}", decibels(layer.output().sqnr_db()),
                layer.output().cosine(), layer.outlier_ratio());
    }
    if (rounded) print_out("  {}", rounding_columns(layer));
    print_out("  {}\n", layer.kernel());
  }
}

std::string report_json(const proto::Plan& plan, int64_t file_size) {
  Json layers = Json::array();
  for (const proto::LayerReport& layer : plan.report().layers()) {
    layers.push_back(layer_json(layer));
  }
  Json inputs = Json::array();
  for (const proto::Provenance::Input& input : plan.provenance().inputs()) {
    inputs.push_back({{"name", input.name()}, {"size", input.size()}, {"digest", input.digest()}});
  }
  Json report = {{"format_version", plan.format_version()},
                 {"model", model_json(plan.model())},
                 {"recipe", recipe_json(plan.recipe())},
                 {"file_bytes", file_size},
                 {"block_linear_bits", plan.report().block_linear_bits()},
                 {"file_bits", plan.report().file_bits()},
                 {"calibration_tokens", plan.report().calibration_tokens()},
                 {"notes", std::vector<std::string>(plan.report().notes().begin(),
                                                    plan.report().notes().end())},
                 {"layers", layers},
                 {"blocks", blocks_json(plan.report())},
                 {"distillation", distillation_json(plan.report())},
                 {"provenance",
                  {{"tool_version", plan.provenance().tool_version()},
                   {"device", plan.provenance().device()},
                   {"inputs", inputs}}}};
  if (plan.report().has_rotation()) report["rotation"] = rotation_json(plan.report().rotation());
  if (plan.report().has_allocation())
    report["allocation"] = allocation_json(plan.report().allocation());
  return report.dump(2);
}

}  // namespace abq::tools
