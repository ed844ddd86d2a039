#include "passes/opt.h"

#include <algorithm>

#include "ir/text.h"
#include "ir/verifier.h"
#include "support/random.h"

namespace abq::passes {
namespace {

const ir::Node* find_embedding(const ir::Region& region) {
  for (const ir::Node& node : region.nodes)
    if (node.op == ir::Op::kEmbedding) return &node;
  return nullptr;
}

bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The list with what its passes need in front of it.
std::vector<std::string> with_scheme_passes(std::vector<std::string> names) {
  const bool need_levels = contains(names, "quantize") || contains(names, "correct-distribution") ||
                           contains(names, "gptq");
  if (need_levels && !contains(names, "balance-bits"))
    names.insert(std::find_if(names.begin(), names.end(),
                              [](const std::string& name) { return name != "assign-schemes"; }),
                 "balance-bits");
  if (contains(names, "balance-bits") && !contains(names, "assign-schemes"))
    names.insert(names.begin(), "assign-schemes");
  return names;
}

std::string describe(const PassContext& context) {
  std::string text;
  for (const auto& [layer, scheme] : context.layer_schemes)
    text += fmt::format("; scheme {}: {}\n", layer, quant::to_string(scheme));
  for (const std::string& note : context.report.notes)
    text += fmt::format("; note: {}\n", note);
  return text;
}

}  // namespace

Status run_passes_on_text(std::string_view text, std::string_view name,
                          const std::vector<std::string>& pass_names, PassContext& context,
                          std::string* out, const PassManager::Options& options) {
  ABQ_ASSIGN_OR_RETURN(ir::Module module, ir::parse(text, name));
  ABQ_RETURN_IF_ERROR(ir::verify(module).with_context(name));
  if (contains(pass_names, "calibrate") && !context.calibrated())
    ABQ_RETURN_IF_ERROR(use_synthetic_calibration(module, context.recipe.calibration,
                                                  context.recipe.seed, context));
  PassManager manager(options);
  for (const std::string& pass : with_scheme_passes(pass_names))
    ABQ_RETURN_IF_ERROR(manager.add(pass));
  ABQ_RETURN_IF_ERROR(manager.run(module, context));
  *out = ir::print(module) + describe(context);
  return {};
}

Status use_synthetic_calibration(const ir::Module& module,
                                 const quant::CalibrationSettings& settings, uint64_t seed,
                                 PassContext& context) {
  Random random(seed);
  const auto tokens = static_cast<size_t>(settings.context);
  context.calibration_windows.assign(static_cast<size_t>(settings.windows),
                                     std::vector<int32_t>(tokens));
  context.float_stream = {};
  for (const ir::Region& region : module.regions) {
    if (const ir::Node* embedding = find_embedding(region)) {
      const auto rows = static_cast<uint64_t>(region.type(embedding->operands.at(1)).shape.at(0));
      for (std::vector<int32_t>& window : context.calibration_windows)
        for (int32_t& token : window)
          token = static_cast<int32_t>(random.below(rows));
      return {};
    }
    if (region.kind != ir::RegionKind::kBlock) continue;
    const int64_t width = region.type(region.arguments.at(0)).shape.at(1);
    ABQ_ASSIGN_OR_RETURN(context.float_stream, Stream::create(settings.windows, settings.context,
                                                              width, context.stream_options));
    std::vector<float> window(tokens * static_cast<size_t>(width));
    for (int64_t w = 0; w < settings.windows; ++w) {
      for (float& value : window)
        value = static_cast<float>(random.normal());
      ABQ_RETURN_IF_ERROR(context.float_stream.write(w, 1, window));
    }
    return {};
  }
  return invalid_argument("module {}: has neither an embedding nor a block to calibrate",
                          module.name);
}

}  // namespace abq::passes
