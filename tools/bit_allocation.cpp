#include "tools/bit_allocation.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "backend/backend.h"
#include "passes/allocation/choose_schemes.h"
#include "passes/allocation/float_model.h"
#include "quant/divergence.h"
#include "runtime/perplexity.h"
#include "support/log.h"
#include "tools/console.h"
#include "tools/fingerprint.h"
#include "tools/memory_budget.h"

namespace abq::tools {
namespace {

constexpr int64_t kDefaultWindows = 4;
constexpr int64_t kProductWindows = 4;  // windows for products of inputs, for each measured one
// Of the plan for each linear: its rows of the report, and its share of the other steps' records.
constexpr int64_t kPlanBytesPerLinear = 512;

Result<std::vector<passes::WeightWidth>> widths_of(const BitTarget& target) {
  const std::span<const passes::WeightWidth> defaults = passes::default_weight_widths();
  std::vector<passes::WeightWidth> widths(defaults.begin(), defaults.end());
  if (target.widths.empty()) return widths;
  widths.clear();
  for (const std::string& text : target.widths) {
    ABQ_ASSIGN_OR_RETURN(const passes::WeightWidth width, passes::parse_weight_width(text));
    widths.push_back(width);
  }
  return widths;
}

// What sensitivities depend on of a recipe: not the widths that are going to be chosen, nor how
// anything is learned.
quant::Recipe measured_recipe(quant::Recipe recipe) {
  recipe.scheme.weights.bits = 8;
  recipe.scheme.weights.balanced = false;
  recipe.correction = {};
  recipe.distillation = {};
  recipe.calibration = {};
  return recipe;
}

std::string scheme_words(const quant::Scheme& scheme) {
  quant::Scheme layer = scheme;
  layer.kv_bits = layer.query_bits = 16;
  return quant::to_string(layer);
}

}  // namespace

Result<BitAllocation> BitAllocation::measure(const CompileOptions& options,
                                             const frontend::Checkpoint& checkpoint,
                                             const passes::PassContext& context,
                                             int64_t tokenizer_bytes) {
  BitAllocation allocation(options, checkpoint);
  allocation.recipe_ = context.recipe;
  allocation.device_ = context.tensor_device;
  ABQ_RETURN_IF_ERROR(allocation.find_layers(context));
  allocation.choose_windows(context);
  ABQ_ASSIGN_OR_RETURN(const passes::Sensitivity sensitivity, allocation.sensitivity(checkpoint));
  ABQ_RETURN_IF_ERROR(allocation.fill_choices(sensitivity));
  allocation.other_bytes_ = allocation.bytes_beside_linears(tokenizer_bytes);
  allocation.kl_allowance_ = options.target.kl;
  return allocation;
}

Status BitAllocation::find_layers(const passes::PassContext& context) {
  ABQ_ASSIGN_OR_RETURN(const std::vector<passes::WeightWidth> widths, widths_of(options_.target));
  passes::PassContext resolved;
  resolved.recipe = context.recipe;
  passes::PassManager manager({});
  for (const char* pass : {"assign-schemes", "balance-bits"})
    ABQ_RETURN_IF_ERROR(manager.add(pass));
  ABQ_RETURN_IF_ERROR(manager.run(module_, resolved));
  schemes_ = std::move(resolved.layer_schemes);
  ABQ_ASSIGN_OR_RETURN(candidates_, passes::find_candidates(module_, recipe_, schemes_, widths,
                                                            options_.target.split_units));
  for (const passes::CandidateUnit& unit : candidates_) {
    weights_ += unit.weights();
    // Of any width: only whether weights are quantized, and their inputs' widths, matter from here.
    for (const passes::CandidateUnit::Layer& layer : unit.layers)
      schemes_[layer.name] = unit.schemes.front();
  }
  return {};
}

// Both kinds are spread evenly over the calibration windows.
void BitAllocation::choose_windows(const passes::PassContext& context) {
  const auto all = std::ssize(context.calibration_windows);
  const int64_t wanted = options_.target.windows > 0 ? options_.target.windows : kDefaultWindows;
  measured_windows_ = std::min<int64_t>(wanted, all);
  std::vector<std::vector<int32_t>> others;
  for (int64_t i = 0; i < all; ++i) {
    // The first window of each of so many equal parts is measured on.
    const bool first = i * measured_windows_ % all < measured_windows_;
    (first ? windows_ : others).push_back(context.calibration_windows[static_cast<size_t>(i)]);
  }
  const auto rest = std::ssize(others);
  const int64_t count = std::min(kProductWindows * measured_windows_, rest);
  for (int64_t i = 0; i < count; ++i)
    windows_.push_back(std::move(others[static_cast<size_t>(i * rest / count)]));
  // A stream of the measured windows for each unit, and those of all windows before and behind a
  // block.
  const int64_t streams = std::ssize(candidates_) + 2 * (1 + kProductWindows);
  const std::string folder = std::filesystem::path(options_.output).parent_path().string();
  stream_options_ = stream_options(static_cast<int64_t>(options_.memory_budget),
                                   {.streams = streams,
                                    .windows = measured_windows_,
                                    .context = std::ssize(windows_.front()),
                                    .hidden = module_.int_attribute("hidden_size")},
                                   folder.empty() ? std::string(".") : folder);
}

// Units of float weights cost nothing.
std::vector<passes::SensitivityUnit> BitAllocation::measured_units() const {
  std::vector<passes::SensitivityUnit> units;
  for (const passes::CandidateUnit& candidate : candidates_) {
    if (!candidate.schemes.front().weights.quantized()) continue;
    passes::SensitivityUnit& unit = units.emplace_back();
    for (const passes::CandidateUnit::Layer& layer : candidate.layers)
      unit.layers.push_back(layer.name);
    for (const quant::Scheme& scheme : candidate.schemes)
      unit.specs.push_back(scheme.weights);
  }
  return units;
}

passes::PassContext BitAllocation::own_context() const {
  passes::PassContext context;
  context.recipe = recipe_;
  context.layer_schemes = schemes_;
  context.tensor_device = device_;
  context.calibration_windows = windows_;
  context.stream_options = stream_options_;
  return context;
}

Result<passes::Sensitivity> BitAllocation::sensitivity(const frontend::Checkpoint& checkpoint) {
  const std::vector<passes::SensitivityUnit> units = measured_units();
  if (options_.resume) {
    const proto::Fingerprint fingerprint =
        make_fingerprint(checkpoint, measured_recipe(recipe_), windows_, device_->description(),
                         stream_options_.precision);
    cache_ = SensitivityCache(work_folder_path(options_), digest(fingerprint));
  }
  if (!options_.restart) {
    if (std::optional<passes::Sensitivity> known = cache_.load(units)) {
      spdlog::info("sensitivities taken up from {}", work_folder_path(options_));
      return std::move(*known);
    }
  }
  passes::PassContext context = own_context();
  ProgressLine progress("sensitivity");
  constexpr int64_t kParts = 1000;
  context.detail_progress = [&](std::string_view words, double fraction) {
    progress.update(static_cast<int64_t>(fraction * kParts), kParts, words);
  };
  ABQ_ASSIGN_OR_RETURN(const passes::Sensitivity measured,
                       passes::measure_sensitivity(module_, context, units, measured_windows_));
  progress.finish();
  ABQ_RETURN_IF_ERROR(cache_.save(measured, units));
  return measured;
}

Status BitAllocation::fill_choices(const passes::Sensitivity& sensitivity) {
  table_.target = target_words();
  table_.tokens = sensitivity.tokens;
  table_.activation_kl = sensitivity.activation_kl;
  auto kls = sensitivity.kl.begin();
  for (const passes::CandidateUnit& candidate : candidates_) {
    quant::UnitAllocation& unit = table_.units.emplace_back();
    for (const passes::CandidateUnit::Layer& layer : candidate.layers)
      unit.layers.push_back(layer.name);
    for (const quant::Scheme& scheme : candidate.schemes) {
      quant::SchemeChoice choice{scheme_words(scheme)};
      for (const passes::CandidateUnit::Layer& layer : candidate.layers) {
        const backend::PlannedLinear linear{
            layer.name, layer.weight, layer.n, layer.k,
            recipe_.rotation ? ir::ElementType::kF32 : layer.element};
        ABQ_ASSIGN_OR_RETURN(const int64_t bytes, backend::planned_linear_bytes(linear, scheme));
        choice.bytes += bytes;
      }
      unit.choices.push_back(std::move(choice));
    }
    if (!candidate.schemes.front().weights.quantized()) continue;
    for (size_t i = 0; i < unit.choices.size(); ++i)
      unit.choices[i].kl = (*kls)[i];
    ++kls;
  }
  return {};
}

// An estimate: accept() corrects it by the size that the file turns out to have.
int64_t BitAllocation::bytes_beside_linears(int64_t tokenizer_bytes) const {
  std::set<std::string> linears;
  for (const passes::CandidateUnit& unit : candidates_)
    for (const passes::CandidateUnit::Layer& layer : unit.layers)
      linears.insert(layer.weight);
  int64_t bytes = tokenizer_bytes + kPlanBytesPerLinear * std::ssize(linears);
  std::set<std::string> counted;
  for (const ir::Region& region : module_.regions) {
    for (const ir::Node& node : region.nodes) {
      if (node.op != ir::Op::kWeight) continue;
      const std::string& name = node.string_attribute("tensor");
      // A rotation makes two of embedding and head where they were one, and may widen them; its
      // norms are float32.
      if (linears.contains(name) || (!recipe_.rotation && !counted.insert(name).second)) continue;
      ir::Type type = region.type(node.result);
      if (recipe_.rotation && (!recipe_.rotation->half_tables || type.shape.size() == 1))
        type = {ir::ElementType::kF32, 0, type.shape};
      bytes += ir::byte_size(type);
    }
  }
  return bytes;
}

std::string BitAllocation::target_words() const {
  const BitTarget& target = options_.target;
  if (target.bits > 0) return fmt::format("{:g} true bits per weight of the linears", target.bits);
  if (target.file_size > 0) return fmt::format("a file of {} bytes", target.file_size);
  return fmt::format("a KL of {:g} nats per token", target.kl);
}

Status BitAllocation::choose(passes::PassContext& context) const {
  using Budget = passes::AllocationBudget;
  quant::AllocationReport report = table_;
  const BitTarget& target = options_.target;
  Budget budget{Budget::Kind::kBytes, target.bits * static_cast<double>(weights_) / 8};
  if (target.file_size > 0)
    budget.limit = static_cast<double>(target.file_size) - static_cast<double>(other_bytes_);
  if (target.kl > 0) budget = {Budget::Kind::kKl, kl_allowance_ - table_.activation_kl};
  const bool reached = passes::choose_schemes(budget, report.units);
  const passes::AllocationSums sums = passes::sums_of(report.units);
  report.predicted_kl = table_.activation_kl + sums.kl;
  if (!reached) return out_of_reach(report);
  spdlog::info("{}: {:.4f} bits, predicted KL {:.4g}", report.target,
               8.0 * static_cast<double>(sums.bytes) / static_cast<double>(weights_),
               report.predicted_kl);
  context.recipe = passes::recipe_with_choices(recipe_, candidates_, report.units);
  context.report.allocation = std::move(report);
  return {};
}

Status BitAllocation::out_of_reach(const quant::AllocationReport& nearest) const {
  const BitTarget& target = options_.target;
  const passes::AllocationSums sums = passes::sums_of(nearest.units);
  if (target.kl > 0)
    return invalid_argument(
        "--max-kl {:g}: out of reach; the candidate widths come down to {:.4g} predicted nats per "
        "token, {:.4g} of it from quantized activations; allow more, or give wider ones",
        target.kl, nearest.predicted_kl, table_.activation_kl);
  if (target.file_size > 0)
    return invalid_argument(
        "--target-size {}: out of reach; the candidate widths come down to about {} bytes, {} of "
        "them beside the linears; allow more, or give narrower ones with --candidate-bits",
        target.file_size, other_bytes_ + sums.bytes, other_bytes_);
  return invalid_argument(
      "--target-bits {:g}: out of reach; the candidate widths come down to {:.3f} true bits per "
      "weight; allow more, or give narrower ones with --candidate-bits",
      target.bits, 8.0 * static_cast<double>(sums.bytes) / static_cast<double>(weights_));
}

bool BitAllocation::accept(const proto::Report& stored, int64_t file_size) {
  const quant::AllocationReport report = *backend::from_proto(stored).allocation;
  const BitTarget& target = options_.target;
  if (target.file_size > 0 && file_size > static_cast<int64_t>(target.file_size)) {
    other_bytes_ = file_size - passes::sums_of(report.units).bytes;
    spdlog::info("the file has {} bytes, more than --target-size; narrower widths are chosen",
                 file_size);
    return false;
  }
  if (target.kl > 0 && report.measured_kl > target.kl) {
    kl_allowance_ = report.predicted_kl * target.kl / report.measured_kl;
    spdlog::info(
        "the KL is {:.4g} where {:.4g} was predicted, above --max-kl; wider widths are "
        "chosen",
        report.measured_kl, report.predicted_kl);
    return false;
  }
  return true;
}

Result<double> BitAllocation::measure_artifact(
    std::shared_ptr<const runtime::LoadedPlan> plan) const {
  ABQ_ASSIGN_OR_RETURN(const runtime::DeviceKind kind, runtime::parse_device_kind(options_.device));
  ABQ_ASSIGN_OR_RETURN(const std::shared_ptr<const runtime::Engine> engine,
                       runtime::Engine::create(std::move(plan), {.device = kind}));
  passes::PassContext context = own_context();
  context.calibration_windows.resize(static_cast<size_t>(measured_windows_));
  ABQ_ASSIGN_OR_RETURN(passes::FloatModel model, passes::FloatModel::run(module_, context));
  std::vector<int32_t> tokens;
  for (const std::vector<int32_t>& window : context.calibration_windows)
    tokens.insert(tokens.end(), window.begin(), window.end());
  quant::Divergence total;
  Status status;
  std::vector<float> reference;
  runtime::PerplexityOptions settings;
  settings.convention = {std::ssize(windows_.front())};
  settings.observer = [&](int64_t window, int64_t first, MatrixView<const float> logits) {
    if (!status.ok()) return;
    status = model.logits(window, first, logits.rows, reference);
    if (!status.ok()) return;
    total.add(quant::compare_logits({reference.data(), logits.rows, logits.cols}, logits));
  };
  ABQ_RETURN_IF_ERROR(runtime::measure_perplexity(*engine, tokens, settings).status());
  ABQ_RETURN_IF_ERROR(status);
  return total.mean_kl();
}

}  // namespace abq::tools
