// GPTQ (arXiv 2210.17323): chooses the codes of a block's linears so that rounding errors make up
// for each other on the inputs that the quantized model will see.
//
// Nothing in the graph changes; PassContext::rounded_layers gets codes, scales and zero points, and
// `quantize` stores them. A site is one input and its width, with all linears that read it so.
// Sites go in the order of the graph, each with the inputs that the sites before leave it: rounded
// weights, quantized activations, quantized attention, behind quantized blocks. docs/gptq.md.
//
// Every window goes through the block piece by piece: up to the first site, and on from there when
// that is rounded. What lies between two pieces is kept on the device where memory allows, else the
// window starts again at the last place that was. The last piece gives `replay-quantized` its
// stream.
#include <fmt/format.h>

#include <algorithm>

#include "passes/autodiff/block_evaluator.h"
#include "passes/gptq_rounding.h"
#include "passes/input_sites.h"
#include "passes/layers.h"
#include "passes/passes.h"

namespace abq::passes {
namespace {

// The calibration windows on their way through a block whose weights change behind them.
class WindowStates {
 public:
  using State = autodiff::BlockEvaluator::State;

  WindowStates(const autodiff::BlockEvaluator& evaluator, const Stream& stream,
               const PassContext& context)
      : evaluator_(evaluator),
        stream_(stream),
        argument_(evaluator.block().arguments.at(0)),
        states_(static_cast<size_t>(stream.windows())),
        window_(static_cast<size_t>(stream.context() * stream.hidden())) {
    // On a host the states share the memory with the streams: where those are short of it, nothing
    // is kept.
    const StreamOptions& options = context.stream_options;
    if (options.precision == StreamOptions::Precision::kFloat32 && options.spill_folder.empty())
      host_bytes_ = kHostStreams * stream.windows() * std::ssize(window_) *
                    static_cast<int64_t>(sizeof(float));
  }

  // Window w before node `position`; behind the last node nothing is kept of it.
  Result<State> advance(int64_t w, const autodiff::BlockRun& run, size_t position) {
    const bool last = position == evaluator_.block().nodes.size();
    State& kept = states_[static_cast<size_t>(w)];
    State state = kept;
    if (!state.values.contains(argument_) && needs_argument(state)) {
      ABQ_RETURN_IF_ERROR(stream_.read(w, 1, window_));
      state.values[argument_] =
          evaluator_.device().upload(window_, stream_.context(), stream_.hidden());
    }
    evaluator_.advance(state, run, position);
    if (w == 0) keep_ = last || fits(state);
    if (keep_) {
      kept = last ? State{} : state;
      if (evaluator_.device().on_host()) kept.values.erase(argument_);
    }
    return state;
  }

 private:
  static constexpr int64_t kHostStreams = 2;  // also tools/compile.cpp's count of streams

  // At the start, and where a node that is still to run reads it (a residual does).
  bool needs_argument(const State& state) const {
    const std::vector<ir::Node>& nodes = evaluator_.block().nodes;
    return std::any_of(nodes.begin() + static_cast<std::ptrdiff_t>(state.position), nodes.end(),
                       [&](const ir::Node& node) {
                         return std::find(node.operands.begin(), node.operands.end(), argument_) !=
                                node.operands.end();
                       });
  }

  int64_t bytes_of(const State& state) const {
    int64_t bytes = 0;
    for (const auto& [value, tensor] : state.values)
      if (value != argument_ || !evaluator_.device().on_host()) bytes += tensor.bytes();
    return bytes;
  }

  // Whether all windows can be kept as the first one stands; on a GPU in half of what is free.
  bool fits(const State& state) const {
    const int64_t needed = stream_.windows() * bytes_of(state);
    if (evaluator_.device().on_host()) return needed <= host_bytes_;
    int64_t held = 0;
    for (const State& kept : states_)
      held += bytes_of(kept);
    return needed <= (evaluator_.device().free_bytes() + held) / 2;
  }

  const autodiff::BlockEvaluator& evaluator_;
  const Stream& stream_;
  ir::ValueId argument_;
  std::vector<State> states_;
  std::vector<float> window_;
  int64_t host_bytes_ = 0;
  bool keep_ = false;
};

class BlockRounder {
 public:
  BlockRounder(const ir::Module& module, const ir::Block& block, PassContext& context)
      : module_(module),
        block_(block),
        context_(context),
        device_(context.tensors()),
        stream_(context.quantized_stream.empty() ? context.float_stream
                                                 : context.quantized_stream) {
    run_.context = stream_.context();
    run_.quantize_attention = true;
    run_.input_bits = [this](const ir::Node& linear) { return scheme(linear).activation_bits; };
  }

  Status run() {
    ABQ_ASSIGN_OR_RETURN(const std::vector<InputSite> sites,
                         find_input_sites(block_, context_.layer_schemes));
    ABQ_ASSIGN_OR_RETURN(autodiff::BlockEvaluator evaluator,
                         autodiff::BlockEvaluator::create(device_, module_, block_));
    WindowStates windows(evaluator, stream_, context_);
    pieces_ = std::ssize(sites) + 1;
    for (const InputSite& site : sites) {
      ABQ_RETURN_IF_ERROR(
          round_site(evaluator, windows, site).with_context(node(site.linears.front()).name));
      ++piece_;
    }
    if (sites.empty() || !feeds_another(module_, block_)) return {};
    return keep_outputs(evaluator, windows);
  }

 private:
  const ir::Node& node(int index) const { return block_.nodes[static_cast<size_t>(index)]; }
  const quant::Scheme& scheme(const ir::Node& linear) const {
    return context_.layer_schemes.at(linear.name);
  }

  void show_progress(int64_t window) const {
    if (!context_.detail_progress) return;
    const double part = static_cast<double>(window + 1) / static_cast<double>(stream_.windows());
    context_.detail_progress(fmt::format("piece {}/{}", piece_ + 1, pieces_),
                             (static_cast<double>(piece_) + part) / static_cast<double>(pieces_));
  }

  Status round_site(autodiff::BlockEvaluator& evaluator, WindowStates& windows,
                    const InputSite& site) {
    const int first = site.linears.front();
    const std::unique_ptr<compute::CompensatedRounder> rounder =
        device_.create_rounder(linear_shape(block_, node(first)).k);
    for (int64_t w = 0; w < stream_.windows(); ++w) {
      ABQ_ASSIGN_OR_RETURN(const WindowStates::State state,
                           windows.advance(w, run_, static_cast<size_t>(first)));
      rounder->add(evaluator.linear_input(state, run_, first));
      ABQ_RETURN_IF_ERROR(device_.status());
      show_progress(w);
    }
    for (const int linear : site.linears)
      ABQ_RETURN_IF_ERROR(round(evaluator, *rounder, node(linear)));
    return {};
  }

  Status round(autodiff::BlockEvaluator& evaluator, compute::CompensatedRounder& rounder,
               const ir::Node& linear) {
    ABQ_ASSIGN_OR_RETURN(const std::vector<float> values,
                         load_finite_weight(module_, block_, linear.operands[1]));
    const LinearShape shape = linear_shape(block_, linear);
    Result<RoundedLayer> layer =
        round_layer(rounder, {values.data(), shape.n, shape.k}, scheme(linear).weights);
    if (!layer.ok()) return layer.status().with_context(linear.name);
    if (layer->report.damping > 0.011)
      context_.report.notes.push_back(fmt::format("{}: damping raised to {:g} of the mean diagonal",
                                                  linear.name, layer->report.damping));
    std::vector<float> rounded(values.size());
    quant::dequantize_weights(layer->weights, {rounded.data(), shape.n, shape.k});
    evaluator.replace_weight(linear.operands[1], device_.upload(rounded, shape.n, shape.k));
    context_.rounded_layers[linear.name] = std::move(layer).value();
    return device_.status();
  }

  Status keep_outputs(const autodiff::BlockEvaluator& evaluator, WindowStates& windows) {
    ABQ_ASSIGN_OR_RETURN(Stream output, Stream::create(stream_.windows(), stream_.context(),
                                                       stream_.hidden(), context_.stream_options));
    std::vector<float> window;
    for (int64_t w = 0; w < stream_.windows(); ++w) {
      ABQ_ASSIGN_OR_RETURN(const WindowStates::State state,
                           windows.advance(w, run_, block_.nodes.size()));
      ABQ_RETURN_IF_ERROR(
          autodiff::store_window(device_, evaluator.result(state), w, window, output));
      show_progress(w);
    }
    context_.quantized_outputs = std::move(output);
    return {};
  }

  const ir::Module& module_;
  const ir::Block& block_;
  PassContext& context_;
  compute::TensorDevice& device_;
  const Stream& stream_;
  autodiff::BlockRun run_;
  int64_t piece_ = 0;
  int64_t pieces_ = 1;
};

struct Gptq : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    if (context.quantized_stream.empty() && context.float_stream.empty())
      return invalid_argument("gptq needs a stream; run calibrate before");
    return BlockRounder(module, block, context).run();
  }
};

}  // namespace

std::unique_ptr<Pass> create_gptq() {
  return std::make_unique<Gptq>();
}

}  // namespace abq::passes
