#include "passes/allocation/sensitivity.h"

#include <algorithm>
#include <cmath>

#include "passes/allocation/head_run.h"
#include "passes/allocation/prepared_regions.h"
#include "passes/allocation/unit_rounding.h"
#include "passes/autodiff/block_evaluator.h"
#include "passes/embed_windows.h"
#include "passes/input_sites.h"
#include "passes/layers.h"

namespace abq::passes {
namespace {

// One block on its way through a measurement.
struct BlockVisit {
  ir::Module module;  // the block as prepared
  std::optional<autodiff::BlockEvaluator> evaluator;
  // A rounder for each input, by the name of the linears that read it.
  std::map<std::string, std::shared_ptr<compute::CompensatedRounder>> rounders;

  const ir::Block& block() const { return module.regions.front(); }
};

// Hidden states of the measured windows where something differs from the float model.
struct Variant {
  size_t unit = 0;
  Stream stream;
};

class SensitivityMeter {
 public:
  SensitivityMeter(const ir::Module& module, PassContext& context,
                   std::span<const SensitivityUnit> units, int64_t measured)
      : module_(module),
        context_(context),
        units_(units),
        measured_(measured),
        device_(context.tensors()),
        regions_(module, context),
        rounding_(context.recipe) {
    result_.kl.resize(units.size());
    for (size_t i = 0; i < units.size(); ++i) {
      result_.kl[i].resize(units[i].specs.size(), 1.0);
      for (const std::string& layer : units[i].layers)
        unit_of_layer_[layer] = i;
    }
    quantized_run_.quantize_attention = true;
    quantized_run_.input_bits = [this](const ir::Node& linear) {
      return context_.layer_schemes.at(linear.name).activation_bits;
    };
  }

  Result<Sensitivity> run() {
    plan_progress();
    ABQ_RETURN_IF_ERROR(embed());
    for (const ir::Region& block : module_.regions)
      if (block.kind == ir::RegionKind::kBlock)
        ABQ_RETURN_IF_ERROR(visit(block).with_context(block.name));
    if (!unit_of_layer_.empty())
      return invalid_argument("{}: no such block linear", unit_of_layer_.begin()->first);
    ABQ_RETURN_IF_ERROR(go_through_head());
    return std::move(result_);
  }

 private:
  // ---- Progress, in runs of one window through one block

  void plan_progress() {
    const int64_t windows = std::ssize(context_.calibration_windows);
    int64_t carried = 1;
    for (const ir::Region& block : module_.regions) {
      if (block.kind != ir::RegionKind::kBlock) continue;
      std::vector<size_t> own;
      for (const int index : linear_nodes(block))
        if (const auto unit = unit_of_layer_.find(block.nodes[static_cast<size_t>(index)].name);
            unit != unit_of_layer_.end())
          own.push_back(unit->second);
      own.erase(std::unique(own.begin(), own.end()), own.end());
      carried += std::ssize(own);
      all_runs_ += windows + carried * measured_;
    }
    all_runs_ += carried * measured_;
  }

  void advance_progress(const std::string& where, int64_t runs) {
    runs_ += runs;
    if (context_.detail_progress)
      context_.detail_progress(
          where, std::min(1.0, static_cast<double>(runs_) / static_cast<double>(all_runs_)));
  }

  // ---- Streams

  Status embed() {
    ABQ_ASSIGN_OR_RETURN(const ir::Module embed, regions_.prepare(module_.regions.front()));
    ABQ_ASSIGN_OR_RETURN(float_, embed_windows(embed, context_.calibration_windows,
                                               *context_.device, context_.stream_options));
    ABQ_ASSIGN_OR_RETURN(quantized_, measured_windows_of(float_));
    result_.tokens = measured_ * float_.context();
    return {};
  }

  Result<Stream> new_stream(int64_t windows) const {
    return Stream::create(windows, float_.context(), float_.hidden(), context_.stream_options);
  }

  Result<Stream> measured_windows_of(const Stream& stream) const {
    ABQ_ASSIGN_OR_RETURN(Stream copy, new_stream(measured_));
    std::vector<float> values(static_cast<size_t>(stream.context() * stream.hidden()));
    for (int64_t w = 0; w < measured_; ++w) {
      ABQ_RETURN_IF_ERROR(stream.read(w, 1, values));
      ABQ_RETURN_IF_ERROR(copy.write(w, 1, values));
    }
    return copy;
  }

  // The measured windows of `input` through a block.
  Result<Stream> run_block(const autodiff::BlockEvaluator& evaluator, const autodiff::BlockRun& run,
                           const Stream& input) {
    ABQ_ASSIGN_OR_RETURN(Stream output, new_stream(measured_));
    ABQ_RETURN_IF_ERROR(autodiff::run_block_on_stream(evaluator, run, input, output));
    advance_progress(evaluator.block().name, measured_);
    return output;
  }

  // ---- One block

  Status visit(const ir::Region& region) {
    BlockVisit visit;
    ABQ_ASSIGN_OR_RETURN(visit.module, regions_.prepare(region));
    ABQ_ASSIGN_OR_RETURN(visit.evaluator,
                         autodiff::BlockEvaluator::create(device_, visit.module, visit.block()));
    ABQ_ASSIGN_OR_RETURN(Stream output, run_float(visit));
    ABQ_ASSIGN_OR_RETURN(quantized_, run_block(*visit.evaluator, quantized_run_, quantized_));
    for (Variant& variant : variants_) {
      ABQ_ASSIGN_OR_RETURN(variant.stream, run_block(*visit.evaluator, {}, variant.stream));
    }
    ABQ_ASSIGN_OR_RETURN(const Stream input, measured_windows_of(float_));
    for (const int index : linear_nodes(visit.block())) {
      const auto unit = unit_of_layer_.find(visit.block().nodes[static_cast<size_t>(index)].name);
      if (unit != unit_of_layer_.end())
        ABQ_RETURN_IF_ERROR(add_variant(visit, unit->second, input));
    }
    float_ = std::move(output);
    return {};
  }

  // All windows through the float block; those that are not measured on show it its inputs.
  Result<Stream> run_float(BlockVisit& visit) {
    ABQ_ASSIGN_OR_RETURN(const std::vector<InputSite> sites,
                         find_input_sites(visit.block(), context_.layer_schemes));
    std::map<std::string, compute::CompensatedRounder*> first_readers;
    for (const InputSite& site : sites) {
      const auto node = [&](int index) -> const ir::Node& {
        return visit.block().nodes[static_cast<size_t>(index)];
      };
      const std::shared_ptr<compute::CompensatedRounder> rounder =
          device_.create_rounder(linear_shape(visit.block(), node(site.linears.front())).k);
      first_readers[node(site.linears.front()).name] = rounder.get();
      for (const int linear : site.linears)
        visit.rounders[node(linear).name] = rounder;
    }
    ABQ_ASSIGN_OR_RETURN(Stream output, new_stream(float_.windows()));
    const bool all = float_.windows() == measured_;
    int64_t window = 0;
    autodiff::BlockRun run;
    run.context = float_.context();
    run.observe_input = [&](const ir::Node& linear, const compute::Tensor& x) {
      const auto reader = first_readers.find(linear.name);
      if (reader != first_readers.end() && (all || window >= measured_)) reader->second->add(x);
    };
    std::vector<float> values(static_cast<size_t>(float_.context() * float_.hidden()));
    for (; window < float_.windows(); ++window) {
      ABQ_RETURN_IF_ERROR(float_.read(window, 1, values));
      autodiff::Tape tape(device_);
      const autodiff::Var x =
          tape.constant(device_.upload(values, float_.context(), float_.hidden()));
      ABQ_RETURN_IF_ERROR(autodiff::store_window(
          device_, visit.evaluator->run(tape, x, run).hidden->value, window, values, output));
      advance_progress(visit.block().name, 1);
    }
    return output;
  }

  // Rounds a unit to its reference, starts its stream, and puts the ratios of its losses where its
  // KLs are going to be.
  Status add_variant(BlockVisit& visit, size_t index, const Stream& input) {
    const SensitivityUnit& unit = units_[index];
    autodiff::BlockEvaluator& evaluator = *visit.evaluator;
    std::fill(result_.kl[index].begin(), result_.kl[index].end(), 0.0);
    std::vector<std::pair<ir::ValueId, compute::Tensor>> float_weights;
    for (const std::string& layer : unit.layers) {
      ABQ_RETURN_IF_ERROR(round_layer_of(visit, index, layer, float_weights).with_context(layer));
      unit_of_layer_.erase(layer);
    }
    ABQ_ASSIGN_OR_RETURN(Stream output, run_block(evaluator, {}, input));
    variants_.push_back({index, std::move(output)});
    for (const auto& [value, tensor] : float_weights)
      evaluator.replace_weight(value, tensor);
    return {};
  }

  Status round_layer_of(BlockVisit& visit, size_t index, const std::string& layer,
                        std::vector<std::pair<ir::ValueId, compute::Tensor>>& float_weights) {
    const ir::Block& block = visit.block();
    const auto node = std::find_if(block.nodes.begin(), block.nodes.end(),
                                   [&](const ir::Node& n) { return n.name == layer; });
    if (node == block.nodes.end()) return invalid_argument("is in no block of its unit's");
    const auto rounder = visit.rounders.find(layer);
    if (rounder == visit.rounders.end())
      return invalid_argument("its scheme leaves its weights float; expected any other");
    const ir::ValueId value = node->operands[1];
    const SensitivityUnit& unit = units_[index];
    const size_t reference = reference_spec(unit.specs);
    ABQ_ASSIGN_OR_RETURN(const std::vector<float> w,
                         load_finite_weight(visit.module, block, value));
    const LinearShape shape = linear_shape(block, *node);
    std::vector<double> losses;
    for (size_t i = 0; i < unit.specs.size(); ++i) {
      ABQ_ASSIGN_OR_RETURN(
          const UnitRounding::Rounded rounded,
          rounding_.round(*rounder->second, {w.data(), shape.n, shape.k}, unit.specs[i]));
      losses.push_back(rounded.loss);
      if (i != reference) continue;
      float_weights.emplace_back(value, visit.evaluator->weight(value));
      visit.evaluator->replace_weight(value, device_.upload(rounded.weights, shape.n, shape.k));
    }
    const auto layers = static_cast<double>(unit.layers.size());
    for (size_t i = 0; i < losses.size(); ++i)
      result_.kl[index][i] += (losses[reference] > 0 ? losses[i] / losses[reference] : 1) / layers;
    return {};
  }

  // ---- The head

  Status go_through_head() {
    const ir::Region& region = module_.regions.back();
    ABQ_ASSIGN_OR_RETURN(ir::Module prepared, regions_.prepare(region));
    ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<HeadRun> head,
                         HeadRun::create(device_, std::move(prepared)));
    ABQ_ASSIGN_OR_RETURN(result_.activation_kl, mean_kl(*head, quantized_));
    for (const Variant& variant : variants_) {
      ABQ_ASSIGN_OR_RETURN(const double kl, mean_kl(*head, variant.stream));
      for (double& ratio : result_.kl[variant.unit])
        ratio *= kl;
    }
    return {};
  }

  Result<double> mean_kl(const HeadRun& head, const Stream& stream) {
    const auto size = static_cast<size_t>(stream.context() * stream.hidden());
    std::vector<float> reference(size);
    std::vector<float> other(size);
    quant::Divergence total;
    for (int64_t w = 0; w < measured_; ++w) {
      ABQ_RETURN_IF_ERROR(float_.read(w, 1, reference));
      ABQ_RETURN_IF_ERROR(stream.read(w, 1, other));
      for (int64_t first = 0; first < stream.context(); first += kHeadTokens) {
        const auto begin = static_cast<size_t>(first * stream.hidden());
        const auto count =
            static_cast<size_t>(std::min(kHeadTokens, stream.context() - first) * stream.hidden());
        ABQ_ASSIGN_OR_RETURN(const quant::Divergence added,
                             head.compare(std::span(reference).subspan(begin, count),
                                          std::span(other).subspan(begin, count)));
        total.add(added);
      }
      advance_progress("head", 1);
    }
    // Rounding may leave a divergence of nothing a little below 0.
    return std::max(0.0, total.mean_kl());
  }

  const ir::Module& module_;
  PassContext& context_;
  std::span<const SensitivityUnit> units_;
  int64_t measured_;
  compute::TensorDevice& device_;
  PreparedRegions regions_;
  UnitRounding rounding_;
  autodiff::BlockRun quantized_run_;
  std::map<std::string, size_t> unit_of_layer_;  // of those that are still to come
  Stream float_;                                 // before the block at hand
  Stream quantized_;                             // the same behind quantized activations
  std::vector<Variant> variants_;
  int64_t runs_ = 0;
  int64_t all_runs_ = 0;
  Sensitivity result_;
};

}  // namespace

size_t reference_spec(std::span<const quant::WeightSpec> specs) {
  constexpr double kReferenceLevels = 8;
  const auto distance = [](const quant::WeightSpec& spec) {
    return std::fabs(std::log2(spec.levels() / kReferenceLevels));
  };
  const auto nearest = std::min_element(
      specs.begin(), specs.end(), [&](const quant::WeightSpec& a, const quant::WeightSpec& b) {
        return distance(a) < distance(b);
      });
  return static_cast<size_t>(nearest - specs.begin());
}

Result<Sensitivity> measure_sensitivity(const ir::Module& module, PassContext& context,
                                        std::span<const SensitivityUnit> units, int64_t measured) {
  if (!context.calibrated())
    return invalid_argument("sensitivity needs calibration text; give --calib FILE");
  ABQ_CHECK(measured > 0 && measured <= std::ssize(context.calibration_windows));
  return SensitivityMeter(module, context, units, measured).run();
}

}  // namespace abq::passes
