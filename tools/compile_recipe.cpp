// Recipe file and command line -> recipe.
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "backend/backend.h"
#include "support/mapped_file.h"
#include "tools/compile.h"

namespace abq::tools {
namespace {

// Flags for what "abq" alone learns.
std::vector<std::string_view> given_abq_flags(const CorrectionFlags& flags) {
  std::vector<std::string_view> given;
  if (flags.no_compensation) given.push_back("--no-compensation");
  if (flags.no_lwc) given.push_back("--no-lwc");
  if (flags.no_let) given.push_back("--no-let");
  return given;
}

// Flags for every method that learns.
std::vector<std::string_view> given_learning_flags(const CorrectionFlags& flags) {
  std::vector<std::string_view> given;
  if (flags.no_akl) given.push_back("--no-akl");
  if (flags.no_dlc) given.push_back("--no-dlc");
  if (flags.mse) given.push_back("--mse");
  if (flags.epochs > 0) given.push_back("--epochs");
  if (flags.batch > 0) given.push_back("--batch");
  return given;
}

void apply(const CorrectionFlags& flags, quant::CorrectionSettings& settings) {
  if (flags.no_akl) settings.akl_float = settings.akl_quantized = 0;
  if (flags.no_dlc) settings.dlc_float = settings.dlc_quantized = 0;
  if (flags.no_compensation) settings.compensation = quant::CompensationBlocks::kNone;
  if (flags.no_lwc) settings.clips = false;
  if (flags.no_let) settings.scales = false;
  if (flags.mse) settings.mse_float = settings.mse_quantized = 1;
  if (flags.epochs > 0) settings.epochs = flags.epochs;
  if (flags.batch > 0) settings.batch = flags.batch;
}

// `settings` without what `method` does not learn.
quant::CorrectionSettings used_by(const std::string& method, quant::CorrectionSettings settings) {
  const quant::CorrectionSettings defaults;
  if (method == "best") {
    settings.scales = defaults.scales;
    settings.clips = defaults.clips;
    settings.compensation = defaults.compensation;
    settings.scale_rate = defaults.scale_rate;
    settings.clip_rate = defaults.clip_rate;
    settings.compensation_rate = defaults.compensation_rate;
    settings.clip_start = defaults.clip_start;
    settings.relative_scales = defaults.relative_scales;
    settings.scale_start = defaults.scale_start;
  } else {
    settings.code_rate = defaults.code_rate;
    settings.step_rate = defaults.step_rate;
    settings.norm_rate = defaults.norm_rate;
  }
  return settings;
}

// A recipe that says how to learn but names a method that does not would be obeyed in part only.
// With --method the user asks for just that, to compare.
Status check_file(const std::string& file, const quant::Recipe& recipe) {
  const auto check = [&](std::string_view field, std::string_view methods,
                         const quant::Recipe& plain) -> Status {
    quant::Recipe learned = recipe;
    learned.method = "best";
    if (backend::recipe_to_json(learned) == backend::recipe_to_json(plain)) return {};
    return invalid_argument(
        "{}: {}: is for {}, and the method is {}; give \"method\" as one of these or leave it out",
        file, field, methods, recipe.method);
  };
  quant::Recipe plain = recipe;
  plain.method = "best";
  plain.distillation = {};
  if (recipe.method != "best") ABQ_RETURN_IF_ERROR(check("distillation", "method best", plain));
  if (!recipe.learned()) {
    plain.correction = {};
    return check("correction", "methods abq and best", plain);
  }
  quant::Recipe used = recipe;
  used.correction = used_by(recipe.method, recipe.correction);
  if (backend::recipe_to_json(used) == backend::recipe_to_json(recipe)) return {};
  return invalid_argument("{}: correction: {} is not for method {}; leave it out", file,
                          recipe.method == "best"
                              ? "what channel scales, clip factors and compensation vectors do"
                              : "a rate of codes, steps or norms",
                          recipe.method);
}

// From this width on learning gains nothing over GPTQ on a rotated model, for some thirty times its
// cost (docs/benchmarks.md).
constexpr int kFineBits = 6;

bool is_fine(const quant::Scheme& scheme) {
  return std::min({scheme.weights.bits, scheme.activation_bits, scheme.kv_bits,
                   scheme.query_bits}) >= kFineBits;
}

// Whether a flag or the recipe file says how to learn.
bool says_how_to_learn(const quant::Recipe& recipe, const CompileOptions& options) {
  // The stored form has what the method uses.
  quant::Recipe learned = recipe;
  learned.method = "best";
  quant::Recipe plain = learned;
  plain.correction = {};
  plain.distillation = {};
  return !given_learning_flags(options.correction).empty() ||
         !given_abq_flags(options.correction).empty() || !options.work_dir.empty() ||
         options.restart || backend::recipe_to_json(plain) != backend::recipe_to_json(learned);
}

// What docs/benchmarks.md shows to be best, where there is text to learn from and something to
// round.
std::string default_method(const quant::Recipe& recipe, const CompileOptions& options) {
  std::vector<quant::Scheme> schemes = {recipe.scheme};
  for (const quant::LayerOverride& layer : recipe.overrides)
    schemes.push_back(layer.scheme);
  const bool rounds = std::ranges::any_of(
      schemes, [](const quant::Scheme& scheme) { return scheme.weights.quantized(); });
  if (!rounds || options.calibration_file.empty()) return "rtn";
  const bool fine = std::ranges::all_of(schemes, is_fine) && !options.target.given();
  return fine && !says_how_to_learn(recipe, options) ? "gptq" : "best";
}

Status check_target(const CompileOptions& options) {
  const BitTarget& target = options.target;
  const int targets = (target.bits > 0) + (target.file_size > 0) + (target.kl > 0);
  if (targets > 1)
    return invalid_argument(
        "--target-bits, --target-size and --max-kl: give one of them, and the others follow");
  if (targets == 0 && (!target.widths.empty() || target.windows > 0 || target.split_units))
    return invalid_argument(
        "--candidate-bits, --sensitivity-windows and --split-launches are for --target-bits, "
        "--target-size and --max-kl; give one of these");
  if (targets == 1 && options.calibration_file.empty())
    return invalid_argument("choosing widths needs calibration text; give --calib FILE");
  return {};
}

}  // namespace

Result<quant::Recipe> make_recipe(const CompileOptions& options) {
  quant::Recipe recipe;
  if (!options.recipe_file.empty()) {
    ABQ_ASSIGN_OR_RETURN(const std::string json, read_text_file(options.recipe_file));
    ABQ_ASSIGN_OR_RETURN(recipe, backend::recipe_from_json(json, options.recipe_file));
  } else if (options.scheme.empty()) {
    return invalid_argument("no scheme: give --scheme, e.g. --scheme w4a8, or a --recipe file");
  }
  if (!options.scheme.empty()) {
    ABQ_ASSIGN_OR_RETURN(recipe.scheme, quant::parse_scheme(options.scheme));
  }
  const bool by_default =
      options.method.empty() && (recipe.method.empty() || options.recipe_file.empty());
  if (by_default) recipe.method = default_method(recipe, options);
  if (!options.method.empty()) {
    recipe.method = options.method;
  } else if (!options.recipe_file.empty()) {
    ABQ_RETURN_IF_ERROR(check_file(options.recipe_file, recipe));
  }
  if (options.calibration_windows > 0) recipe.calibration.windows = options.calibration_windows;
  if (options.calibration_context > 0) recipe.calibration.context = options.calibration_context;
  if (options.clip_search) recipe.clip_search = true;

  if (!options.rotation.empty()) {
    if (!recipe.rotation) recipe.rotation.emplace();
    ABQ_ASSIGN_OR_RETURN(recipe.rotation->residual,
                         backend::parse_residual_rotation(options.rotation));
  }
  // Its rotation is a part of it: only a recipe that asks for none of it goes without.
  const bool rotates = recipe.method == "best" || (by_default && recipe.method == "gptq");
  if (rotates && !recipe.rotation) recipe.rotation.emplace();
  // Their grids always come from a search; the artifact's recipe says so.
  if (recipe.method == "gptq" || recipe.method == "best") recipe.clip_search = true;

  std::vector<std::string_view> flags = given_learning_flags(options.correction);
  if (options.correction.seed && !recipe.rotation) flags.push_back("--seed");
  if (!options.target.given()) {
    if (!options.work_dir.empty()) flags.push_back("--work-dir");
    if (options.restart) flags.push_back("--restart");
  }
  ABQ_RETURN_IF_ERROR(check_target(options));
  if (!flags.empty() && !recipe.learned())
    return invalid_argument(
        "{}: for methods abq and best only, and the method is {}; add --method abq or --method "
        "best",
        fmt::join(flags, ", "), recipe.method);
  const std::vector<std::string_view> abq_flags = given_abq_flags(options.correction);
  if (!abq_flags.empty() && recipe.method != "abq")
    return invalid_argument("{}: for method abq only, and the method is {}; add --method abq",
                            fmt::join(abq_flags, ", "), recipe.method);
  apply(options.correction, recipe.correction);
  if (recipe.correction.epochs == 0) recipe.correction.epochs = recipe.default_epochs();
  if (options.correction.seed) recipe.seed = *options.correction.seed;
  if (recipe.learned()) ABQ_RETURN_IF_ERROR(backend::check_correction(recipe.correction));
  if (recipe.method == "abq" && recipe.clip_search)
    return invalid_argument(
        "clip search: method abq learns its clip factors; leave clip search out, or let learning "
        "start from it with \"clip_start\": \"search\" in the recipe's correction");
  return recipe;
}

}  // namespace abq::tools
