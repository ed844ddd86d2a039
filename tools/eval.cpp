// abq eval: perplexity in a named convention; KL divergence and top-1 agreement against the float
// model.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "frontend/frontend.h"
#include "ir/interpreter.h"
#include "quant/divergence.h"
#include "runtime/engine.h"
#include "runtime/perplexity.h"
#include "support/parallel.h"
#include "tools/commands.h"
#include "tools/console.h"
#include "tools/model_files.h"

namespace abq::tools {
namespace {

struct EvalOptions {
  std::string artifact;
  std::string text_file;
  std::string reference_dir;
  std::string convention;
  std::string device = "auto";
  int64_t max_windows = 0;
  double max_kl = 0;
  double max_perplexity = 0;
};

// Runs the float checkpoint beside the artifact, window by window.
class ReferenceComparison {
 public:
  ReferenceComparison(ir::Module module, std::span<const int32_t> tokens, int64_t context)
      : module_(std::move(module)), tokens_(tokens), context_(context) {}

  Status observe(int64_t window, int64_t first, MatrixView<const float> artifact_logits) {
    if (window != window_) {
      ABQ_ASSIGN_OR_RETURN(
          reference_,
          ir::Interpreter().logits(module_, tokens_.subspan(static_cast<size_t>(window * context_),
                                                            static_cast<size_t>(context_))));
      window_ = window;
    }
    const MatrixView<float> all = reference_.view();
    total_.add(quant::compare_logits({all.row(first), artifact_logits.rows, all.cols, all.stride},
                                     artifact_logits));
    return {};
  }
  const quant::Divergence& total() const { return total_; }

 private:
  ir::Module module_;
  std::span<const int32_t> tokens_;
  int64_t context_;
  int64_t window_ = -1;
  ir::Matrix reference_;
  quant::Divergence total_;
};

Result<std::vector<int32_t>> text_tokens(const EvalOptions& options,
                                         const runtime::LoadedPlan& plan) {
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<tokenizer::Tokenizer> tokenizer,
                       load_plan_tokenizer(plan));
  ABQ_ASSIGN_OR_RETURN(const std::string text, read_text_file(options.text_file));
  if (text.empty()) return invalid_argument("{}: the text is empty", options.text_file);
  Result<std::vector<int32_t>> ids = tokenizer->encode(text, tokenizer::SpecialTokens::kOmit);
  if (!ids.ok()) return ids.status().with_context(options.text_file);
  return ids;
}

Result<runtime::Convention> convention_of(const EvalOptions& options, const proto::Plan& plan) {
  if (!options.convention.empty()) return runtime::parse_convention(options.convention);
  constexpr int64_t kDefaultContext = 2048;
  return runtime::Convention{std::min(kDefaultContext, plan.model().context())};
}

// The thresholds that were given; a miss is exit code 3.
int check_gates(const EvalOptions& options, const runtime::Perplexity& result,
                const quant::Divergence* divergence) {
  int code = kExitOk;
  if (options.max_perplexity > 0 && !(result.perplexity <= options.max_perplexity)) {
    print_err("abq: quality gate: perplexity {:.4f} is above --max-ppl {}\n", result.perplexity,
              options.max_perplexity);
    code = kExitQualityGate;
  }
  if (divergence != nullptr && options.max_kl > 0) {
    const double kl = divergence->mean_kl();
    if (!(kl <= options.max_kl)) {
      print_err("abq: quality gate: KL {:.6f} is above --max-kl {}\n", kl, options.max_kl);
      code = kExitQualityGate;
    }
  }
  return code;
}

// What was measured, how, and what came out.
struct Evaluation {
  const EvalOptions& options;
  const runtime::Engine& engine;
  runtime::Convention convention;
  size_t tokens;
  runtime::Perplexity result;
  const quant::Divergence* divergence;  // null without a reference
  double seconds;
};

void print_evaluation(const Evaluation& e) {
  const proto::Recipe& recipe = e.engine.plan().plan().recipe();
  print_out("artifact     {} ({}, method {})\n", e.options.artifact, recipe.scheme(),
            recipe.method());
  print_out("text         {} ({} tokens, no BOS)\n", e.options.text_file, e.tokens);
  print_out(
      "convention   {}: windows of {} from the start, no overlap, rest dropped, all but the "
      "first token scored\n",
      e.convention.name(), e.convention.context);
  print_out("device       {}, {} threads\n", e.engine.device_name(), num_threads());
  print_out("scored       {} tokens in {} windows, {}\n", e.result.scored_tokens, e.result.windows,
            human_seconds(e.seconds));
  print_out("nll          {:.6f}\n", e.result.mean_nll);
  print_out("perplexity   {:.4f}\n", e.result.perplexity);
  if (e.divergence == nullptr) return;
  const double positions = static_cast<double>(e.divergence->positions);
  print_out("KL           {:.6f} nats per token against {}\n", e.divergence->mean_kl(),
            e.options.reference_dir);
  print_out("top-1        {:.3f} % of positions agree\n",
            100.0 * static_cast<double>(e.divergence->same_top) / positions);
}

Result<int> evaluate(const EvalOptions& options) {
  if (options.max_kl > 0 && options.reference_dir.empty()) {
    return invalid_argument("--max-kl needs the float model: give --reference MODEL_DIR");
  }
  ABQ_ASSIGN_OR_RETURN(const runtime::DeviceKind device,
                       runtime::parse_device_kind(options.device));
  ABQ_ASSIGN_OR_RETURN(std::shared_ptr<const runtime::LoadedPlan> plan,
                       runtime::LoadedPlan::open(options.artifact, runtime::Verify::kAll));
  ABQ_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, text_tokens(options, *plan));
  ABQ_ASSIGN_OR_RETURN(const runtime::Convention convention, convention_of(options, plan->plan()));
  ABQ_ASSIGN_OR_RETURN(const std::shared_ptr<const runtime::Engine> engine,
                       runtime::Engine::create(plan, {.device = device}));

  runtime::PerplexityOptions settings;
  settings.convention = convention;
  settings.max_windows = options.max_windows;
  ProgressLine progress("window");
  settings.progress = [&](int64_t done, int64_t total, double perplexity) {
    progress.update(done, total, fmt::format("perplexity {:.3f}", perplexity));
  };
  std::optional<ReferenceComparison> reference;
  Status reference_status;
  if (!options.reference_dir.empty()) {
    ABQ_ASSIGN_OR_RETURN(frontend::Checkpoint checkpoint,
                         frontend::import_checkpoint(options.reference_dir));
    if (checkpoint.module.int_attribute("vocab_size") != plan->plan().model().vocab_size()) {
      return invalid_argument("--reference {}: vocabulary {} is not the artifact's {}",
                              options.reference_dir, checkpoint.module.int_attribute("vocab_size"),
                              plan->plan().model().vocab_size());
    }
    reference.emplace(std::move(checkpoint.module), tokens, convention.context);
    settings.observer = [&](int64_t window, int64_t first, MatrixView<const float> logits) {
      if (reference_status.ok()) reference_status = reference->observe(window, first, logits);
    };
  }

  const auto start = std::chrono::steady_clock::now();
  ABQ_ASSIGN_OR_RETURN(const runtime::Perplexity result,
                       runtime::measure_perplexity(*engine, tokens, settings));
  ABQ_RETURN_IF_ERROR(reference_status);
  progress.finish();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  const quant::Divergence* divergence = reference ? &reference->total() : nullptr;
  print_evaluation({options, *engine, convention, tokens.size(), result, divergence, seconds});
  return check_gates(options, result, divergence);
}

}  // namespace

void add_eval_command(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command =
      app.add_subcommand("eval", "measure perplexity, and KL against the float model");
  command->footer(
      "Exit code 3 when a --max-* threshold is exceeded.\n"
      "Examples:\n"
      "  abq eval llama.abq --text wikitext2-test.txt --convention gptq-2048\n"
      "  abq eval llama.abq --text held-out.txt --reference models/llama --max-kl 0.05");
  command->add_option("artifact", options->artifact, "model.abq")->required();
  command->add_option("--text", options->text_file, "UTF-8 text to score")->required();
  command->add_option("--convention", options->convention,
                      "gptq-<context> (default: 2048 or the model's context if shorter)");
  command->add_option("--reference", options->reference_dir, "float checkpoint to compare with");
  command->add_option("--windows", options->max_windows, "score only the first windows; 0 = all")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--device", options->device, "auto, cpu or cuda")->capture_default_str();
  command->add_option("--max-kl", options->max_kl, "quality gate on KL per token");
  command->add_option("--max-ppl", options->max_perplexity, "quality gate on perplexity");
  command->callback([options, &exit_code] {
    const Result<int> code = evaluate(*options);
    exit_code = code.ok() ? *code : report_status(code.status());
  });
}

}  // namespace abq::tools
