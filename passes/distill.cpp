// Distillation: fits step sizes and norm weights of the whole quantized model, codes as they are,
// to the float model's logits on the calibration windows (as EfficientQAT's second phase,
// arXiv 2407.11062, but by the divergence from the float model instead of the text's own tokens).
//
//   loss = mean over tokens of KL(softmax(float logits) || softmax(quantized logits))
//
// Between two rounds of block passes: PassContext::rounded_layers has the codes of all blocks and
// float_stream the float model's last hidden states. A step runs the blocks forward and keeps what
// stands between them alone; on the way back each block runs again on a tape of its own, so that
// memory is that of one block's tape beside the model's weights. Where the device has no room even
// for that, nothing is changed and the report says so. docs/learned_rounding.md.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "passes/correction/schedule.h"
#include "passes/distillation/model_student.h"
#include "passes/embed_windows.h"
#include "passes/passes.h"
#include "support/log.h"

namespace abq::passes {
namespace {

using compute::Tensor;

class Distillation {
 public:
  Distillation(ir::Module& module, PassContext& context)
      : module_(module),
        context_(context),
        settings_(context.recipe.distillation),
        device_(context.tensors()),
        targets_(context.float_stream) {}

  Status run() {
    if (targets_.windows() != std::ssize(context_.calibration_windows))
      return invalid_argument(
          "distill needs the float model's outputs on all calibration windows; run calibrate "
          "before, in a round of its own");
    if (!fits()) return {};
    ABQ_ASSIGN_OR_RETURN(inputs_, embed_windows(module_, context_.calibration_windows,
                                                *context_.device, context_.stream_options));
    ABQ_ASSIGN_OR_RETURN(student_, ModelStudent::create(device_, module_, context_));
    choose_micro_batch();

    quant::DistillationReport report;
    ABQ_ASSIGN_OR_RETURN(report.before, divergence());
    ABQ_RETURN_IF_ERROR(learn(report));
    ABQ_ASSIGN_OR_RETURN(report.after, divergence());
    ABQ_ASSIGN_OR_RETURN(const bool storable, student_->storable());
    report.kept = storable && report.after < report.before;
    if (report.kept) ABQ_RETURN_IF_ERROR(student_->store(module_, context_));
    context_.report.distillation = std::move(report);
    return {};
  }

 private:
  bool fits() const {
    const int64_t needed = ModelStudent::least_bytes(module_, context_, targets_.context());
    const int64_t free = available_bytes();
    if (needed <= free) return true;
    constexpr double kGiB = 1 << 30;
    const std::string note = fmt::format(
        "distill left out: it needs about {:.1f} GiB on {}, and {:.1f} GiB are free",
        static_cast<double>(needed) / kGiB, device_.name(), static_cast<double>(free) / kGiB);
    spdlog::warn("{}", note);
    context_.report.notes.push_back(note);
    return false;
  }

  // Of the device, or as much of it as learning was given.
  int64_t available_bytes() const {
    const int64_t free = device_.free_bytes();
    return context_.learning_memory > 0 ? std::min(context_.learning_memory, free) : free;
  }

  void choose_micro_batch() {
    const int64_t memory = available_bytes();
    micro_batch_ = std::min(settings_.batch, targets_.windows());
    while (micro_batch_ > 1 && student_->learning_bytes(micro_batch_, targets_.context()) > memory)
      micro_batch_ = (micro_batch_ + 1) / 2;
  }

  Result<Tensor> load(const Stream& stream, std::span<const int64_t> windows) const {
    const auto size = static_cast<size_t>(stream.context() * stream.hidden());
    std::vector<float> values(windows.size() * size);
    for (size_t i = 0; i < windows.size(); ++i)
      ABQ_RETURN_IF_ERROR(stream.read(windows[i], 1, std::span(values).subspan(i * size, size)));
    return device_.upload(values, std::ssize(windows) * stream.context(), stream.hidden());
  }

  // Runs f(x, float hidden states, share of all) on `windows` in parts of a micro batch, and adds
  // up the divergences that it returns, times their shares, in `sum`.
  template <class F>
  Status add_parts(std::span<const int64_t> windows, const Tensor& sum, const F& f) const {
    const auto micro = static_cast<size_t>(micro_batch_);
    for (size_t first = 0; first < windows.size(); first += micro) {
      const auto part = windows.subspan(first, std::min(micro, windows.size() - first));
      const float share = static_cast<float>(part.size()) / static_cast<float>(windows.size());
      ABQ_ASSIGN_OR_RETURN(const Tensor x, load(inputs_, part));
      ABQ_ASSIGN_OR_RETURN(const Tensor float_hidden, load(targets_, part));
      device_.accumulate(sum, f(x, float_hidden, share), share);
    }
    return {};
  }

  Result<double> read(const Tensor& sum) const {
    float value = 0;
    device_.download(sum, std::span(&value, 1));
    ABQ_RETURN_IF_ERROR(device_.status());
    return value;
  }

  // Mean over all windows.
  Result<double> divergence() const {
    std::vector<int64_t> all(static_cast<size_t>(targets_.windows()));
    std::iota(all.begin(), all.end(), 0);
    const Tensor sum = device_.filled(1, 1, 0.0f);
    ABQ_RETURN_IF_ERROR(
        add_parts(all, sum, [&](const Tensor& x, const Tensor& float_hidden, float) {
          return student_->divergence(x, float_hidden, targets_.context());
        }));
    return read(sum);
  }

  // The moments of AdamW, as parameters() of the student.
  struct Moments {
    std::vector<Tensor> means;
    std::vector<Tensor> variances;
    int64_t steps = 0;
  };

  Status step(std::span<const int64_t> windows, double factor, Moments& moments,
              const Tensor& sum) {
    const std::span<LearnedParameter* const> parameters = student_->parameters();
    std::vector<Tensor> gradients(parameters.size());
    ABQ_RETURN_IF_ERROR(
        add_parts(windows, sum, [&](const Tensor& x, const Tensor& float_hidden, float share) {
          return student_->differentiate(x, float_hidden, targets_.context(), share, gradients);
        }));
    ++moments.steps;
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (gradients[i].empty()) continue;
      const bool norm = parameters[i]->kind == LearnedParameter::Kind::kNorm;
      compute::AdamW adamw;
      adamw.rate = factor * (norm ? settings_.norm_rate : settings_.step_rate);
      adamw.step = moments.steps;
      device_.adamw(parameters[i]->value, gradients[i], moments.means[i], moments.variances[i],
                    adamw);
    }
    return {};
  }

  Status learn(quant::DistillationReport& report) {
    Moments moments;
    for (const LearnedParameter* parameter : student_->parameters()) {
      const Tensor& value = parameter->value;
      moments.means.push_back(device_.filled(value.rows(), value.cols(), 0.0f));
      moments.variances.push_back(device_.filled(value.rows(), value.cols(), 0.0f));
    }
    const auto batch = static_cast<size_t>(settings_.batch);
    const int64_t steps = (targets_.windows() + settings_.batch - 1) / settings_.batch;
    const auto done = [&] {
      return static_cast<double>(moments.steps) / static_cast<double>(settings_.epochs * steps);
    };
    for (int64_t epoch = 0; epoch < settings_.epochs; ++epoch) {
      const std::vector<int64_t> order =
          shuffled_windows(targets_.windows(), context_.recipe.seed, epoch);
      const std::span<const int64_t> windows(order);
      const Tensor sum = device_.filled(1, 1, 0.0f);
      for (size_t first = 0; first < windows.size(); first += batch) {
        const auto part = windows.subspan(first, std::min(batch, windows.size() - first));
        const double factor = cosine_decay(done());
        ABQ_RETURN_IF_ERROR(step(part, factor, moments, sum));
        if (context_.detail_progress)
          context_.detail_progress(fmt::format("epoch {}/{}", epoch + 1, settings_.epochs), done());
      }
      ABQ_ASSIGN_OR_RETURN(const double total, read(sum));
      report.epochs.push_back(total / static_cast<double>(steps));
      // The divergence behind it will be no better than before, and nothing is kept.
      if (!std::isfinite(total)) return {};
    }
    return {};
  }

  ir::Module& module_;
  PassContext& context_;
  const quant::DistillationSettings& settings_;
  compute::TensorDevice& device_;
  const Stream& targets_;  // the float model's hidden states behind the last block
  Stream inputs_;          // before the first
  std::unique_ptr<ModelStudent> student_;
  int64_t micro_batch_ = 1;
};

struct Distill : ModelPass {
  Status run(ir::Module& module, PassContext& context) override {
    // Without codes there is nothing that a norm weight could make up for.
    if (!context.rounded_layers.empty()) ABQ_RETURN_IF_ERROR(Distillation(module, context).run());
    // The next round starts at the first block, and measures outputs on a few windows alone.
    const auto windows =
        std::min<int64_t>(std::ssize(context.calibration_windows), kQualityWindows);
    context.quantized_stream = {};
    ABQ_ASSIGN_OR_RETURN(
        context.float_stream,
        embed_windows(module,
                      std::span(context.calibration_windows).first(static_cast<size_t>(windows)),
                      *context.device, context.stream_options));
    return {};
  }
};

}  // namespace

std::unique_ptr<Pass> create_distill() {
  return std::make_unique<Distill>();
}

}  // namespace abq::passes
