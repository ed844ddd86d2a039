#include "passes/correction/student.h"

#include <algorithm>
#include <cmath>

#include "ir/patterns.h"
#include "passes/autodiff/ops.h"
#include "passes/layers.h"

namespace abq::passes {
namespace {

using autodiff::Var;
using compute::Tensor;

constexpr float kWideClip = 4.0f;  // gamma: sigmoid(4) = 0.982

float logit(float p) {
  return std::log(p / (1.0f - p));
}

float sigmoid(float x) {
  return 1.0f / (1.0f + std::exp(-x));
}

}  // namespace

// What a weight becomes: first in floats, then quantized.
class Student::WeightGraph {
 public:
  WeightGraph(const Student& student, autodiff::Tape& tape, bool learning)
      : student_(student), tape_(tape) {
    bound_ = student.bind(tape, learning);
    for (size_t site = 0; site < student.sites_.size(); ++site)
      scales_.push_back(student.site_scales(
          tape, site, bound_[static_cast<size_t>(student.site_parameters_[site])]));
  }

  // Null where the block's own weight stands.
  Var used(ir::ValueId weight) {
    Var& known = used_[weight];
    if (!known) known = quantized(weight, transformed(weight));
    return known;
  }

  Var transformed(ir::ValueId weight) {
    const Var w = tape_.constant(student_.evaluator().weight(weight));
    Var rows, columns;
    Var result = w;
    if (const auto uses = student_.uses_.find(weight); uses != student_.uses_.end()) {
      for (const SiteUse& use : uses->second) {
        const Var scale = repeated(use);
        switch (fold_of(use).kind) {
          case ScaleFold::Kind::kDivideVector:
            result = autodiff::multiply(tape_, result, autodiff::reciprocal(tape_, scale));
            break;
          case ScaleFold::Kind::kDivideRows:
            multiply_in(rows, autodiff::reciprocal(tape_, scale));
            break;
          case ScaleFold::Kind::kMultiplyRows:
            multiply_in(rows, scale);
            break;
          case ScaleFold::Kind::kMultiplyColumns:
            multiply_in(columns, scale);
            break;
        }
      }
    }
    Var left, right;
    if (const LinearState* linear = state(weight); linear != nullptr && linear->left >= 0) {
      left = bound_[static_cast<size_t>(linear->left)];
      right = bound_[static_cast<size_t>(linear->right)];
    }
    if (rows || columns || left)
      result = autodiff::affine_weight(tape_, result, rows, columns, left, right);
    return result;
  }

  std::vector<Var> take_bound() { return std::move(bound_); }

 private:
  const LinearState* state(ir::ValueId weight) const {
    const auto linear = student_.linears_.find(weight);
    return linear == student_.linears_.end() ? nullptr : &linear->second;
  }

  const ScaleFold& fold_of(const SiteUse& use) const {
    return student_.sites_[use.site].folds[use.fold];
  }

  Var quantized(ir::ValueId weight, const Var& w) {
    const LinearState* linear = state(weight);
    if (linear == nullptr || !linear->scheme.weights.quantized()) return w;
    Var low, high;
    if (linear->clip_low >= 0) {
      low = autodiff::sigmoid(tape_, bound_[static_cast<size_t>(linear->clip_low)]);
      high = autodiff::sigmoid(tape_, bound_[static_cast<size_t>(linear->clip_high)]);
    } else if (!linear->fixed_low.empty()) {
      low = tape_.constant(linear->fixed_low);
      high = tape_.constant(linear->fixed_high);
    }
    return autodiff::fake_quantize_weight(tape_, w, low, high,
                                          weight_quantizer(linear->scheme.weights));
  }

  Var repeated(const SiteUse& use) {
    Var scale = scales_[use.site];
    for (const Repeat& repeat : fold_of(use).repeats)
      scale = autodiff::repeat(tape_, scale, repeat.inner, repeat.count);
    return scale;
  }

  void multiply_in(Var& product, const Var& factor) {
    product = product ? autodiff::multiply(tape_, product, factor) : factor;
  }

  const Student& student_;
  autodiff::Tape& tape_;
  std::vector<Var> bound_;   // as parameters_
  std::vector<Var> scales_;  // of each site, away from zero
  std::map<ir::ValueId, Var> used_;
};

Result<Student> Student::create(const autodiff::BlockEvaluator& evaluator, const ir::Module& module,
                                const std::map<std::string, quant::Scheme>& schemes,
                                std::vector<ScaleSite> sites, const StudentOptions& options) {
  Student student(evaluator);
  if (options.scales) student.add_scales(std::move(sites), options.relative_scales);
  ABQ_RETURN_IF_ERROR(student.add_linears(module, schemes, options));
  return student;
}

void Student::add_scales(std::vector<ScaleSite> sites, bool relative) {
  sites_ = std::move(sites);
  for (size_t i = 0; i < sites_.size(); ++i) {
    const ScaleSite& site = sites_[i];
    const auto count = static_cast<int64_t>(site.start.size());
    const std::vector<float> ones(site.start.size(), 1.0f);
    site_starts_.push_back(relative ? device().upload(site.start, 1, count) : compute::Tensor());
    site_parameters_.push_back(add_parameter("scale " + site.name, LearnedParameter::Kind::kScale,
                                             relative ? ones : site.start, 1, count));
    for (size_t f = 0; f < site.folds.size(); ++f) {
      const ir::Node& node = evaluator().block().nodes[static_cast<size_t>(site.folds[f].node)];
      uses_[node.operands[1]].push_back({i, f});
    }
  }
}

Var Student::site_scales(autodiff::Tape& tape, size_t site, const Var& learned) const {
  const Var scale = autodiff::away_from_zero(tape, learned, kMinScaleMagnitude);
  const Tensor& start = site_starts_[site];
  return start.empty() ? scale : autodiff::multiply(tape, scale, tape.constant(start));
}

Status Student::add_linears(const ir::Module& module,
                            const std::map<std::string, quant::Scheme>& schemes,
                            const StudentOptions& options) {
  const ir::Block& block = evaluator().block();
  for (const int index : linear_nodes(block)) {
    const ir::Node& node = block.nodes[static_cast<size_t>(index)];
    const ir::ValueId weight = node.operands[1];
    if (block.users(weight).size() != 1)
      return unsupported("{}: its weight {} has more than one reader", node.name,
                         module.weight_name(block, weight));
    const auto scheme = schemes.find(node.name);
    if (scheme == schemes.end())
      return invalid_argument("{} has no scheme; run assign-schemes first", node.name);
    linears_[weight].name = node.name;
    linears_[weight].scheme = scheme->second;
  }
  if (options.compensation) add_compensation();
  for (auto& [weight, state] : linears_) {
    const quant::WeightSpec& spec = state.scheme.weights;
    // A binary weight has no range to clip.
    if (spec.quantized() && !spec.binary()) ABQ_RETURN_IF_ERROR(add_clips(state, weight, options));
  }
  return {};
}

void Student::add_compensation() {
  const ir::Block& block = evaluator().block();
  for (const ir::UpDownSite& site : ir::find_up_down_sites(block)) {
    const ir::Node& down = block.nodes[static_cast<size_t>(site.down)];
    LinearState& state = linears_.at(down.operands[1]);
    if (!state.scheme.weights.quantized()) continue;
    const LinearShape shape = linear_shape(block, down);
    const std::vector<float> zeros(static_cast<size_t>(shape.n), 0.0f);
    const std::vector<float> ones(static_cast<size_t>(shape.k), 1.0f);
    const auto kind = LearnedParameter::Kind::kCompensation;
    state.left = add_parameter("compensation_a " + down.name, kind, zeros, 1, shape.n);
    state.right = add_parameter("compensation_b " + down.name, kind, ones, 1, shape.k);
  }
}

Status Student::add_clips(LinearState& state, ir::ValueId weight, const StudentOptions& options) {
  std::vector<quant::ClipRatio> found;
  if (options.clip_start == quant::ClipStart::kSearch) {
    ABQ_ASSIGN_OR_RETURN(found, search_clips(state, weight));
  }
  const int64_t rows = evaluator().weight(weight).rows();
  const int64_t groups = state.scheme.weights.groups(evaluator().weight(weight).cols());
  const auto count = static_cast<size_t>(rows * groups);
  if (options.clips) {
    std::vector<float> low(count, kWideClip);
    std::vector<float> high(count, kWideClip);
    for (size_t i = 0; i < found.size(); ++i) {
      low[i] = logit(std::min(found[i].low, sigmoid(kWideClip)));
      high[i] = logit(std::min(found[i].high, sigmoid(kWideClip)));
    }
    const auto kind = LearnedParameter::Kind::kClip;
    state.clip_low = add_parameter("clip_low " + state.name, kind, low, rows, groups);
    state.clip_high = add_parameter("clip_high " + state.name, kind, high, rows, groups);
  } else if (!found.empty()) {
    std::vector<float> low(count);
    std::vector<float> high(count);
    for (size_t i = 0; i < found.size(); ++i) {
      low[i] = found[i].low;
      high[i] = found[i].high;
    }
    state.fixed_clips = std::move(found);
    state.fixed_low = device().upload(low, rows, groups);
    state.fixed_high = device().upload(high, rows, groups);
  }
  return {};
}

Result<std::vector<quant::ClipRatio>> Student::search_clips(const LinearState& state,
                                                            ir::ValueId weight) const {
  const Tensor w = transformed_weight(weight);
  std::vector<float> values(static_cast<size_t>(w.size()));
  device().download(w, values);
  ABQ_RETURN_IF_ERROR(device().status());
  return quant::search_clips({values.data(), w.rows(), w.cols()}, state.scheme.weights);
}

Student::Pass Student::run(autodiff::Tape& tape, const Var& x, int64_t context,
                           bool learning) const {
  WeightGraph graph(*this, tape, learning);
  autodiff::BlockRun run;
  run.context = context;
  run.quantize_attention = true;
  run.weight = [&](ir::ValueId weight) { return graph.used(weight); };
  run.input_bits = [&](const ir::Node& linear) {
    return linears_.at(linear.operands[1]).scheme.activation_bits;
  };
  Pass pass;
  pass.output = evaluator().run(tape, x, run);
  pass.bound = graph.take_bound();
  return pass;
}

Tensor Student::transformed_weight(ir::ValueId weight) const {
  autodiff::Tape tape(device());
  return WeightGraph(*this, tape, false).transformed(weight)->value;
}

}  // namespace abq::passes
