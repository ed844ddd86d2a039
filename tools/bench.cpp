// abq bench: tokens per second of an artifact; kernel speed against floors and baselines.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

#include "runtime/engine.h"
#include "support/parallel.h"
#include "support/random.h"
#include "tools/bench_attention.h"
#include "tools/bench_kernels.h"
#include "tools/bench_model.h"
#include "tools/bench_tune.h"
#include "tools/commands.h"
#include "tools/console.h"

namespace abq::tools {
namespace {

struct BenchOptions {
  std::string artifact;
  std::string device = "auto";
  std::string prefill_attention = "auto";
  bool kernels = false;
  bool attention = false;
  bool tune = false;
  std::string output;
  bool force = false;
  std::string model_shape;
  int64_t batch = 1;
  KernelBenchOptions kernel_options;
  std::vector<std::string> schemes;  // none: the defaults of what is measured
  std::optional<int64_t> prompt_tokens;
  std::optional<int64_t> new_tokens;
  int repeats = 5;
};

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Status bench_artifact(const BenchOptions& options) {
  ABQ_ASSIGN_OR_RETURN(const runtime::DeviceKind device,
                       runtime::parse_device_kind(options.device));
  ABQ_ASSIGN_OR_RETURN(std::shared_ptr<const runtime::LoadedPlan> plan,
                       runtime::LoadedPlan::open(options.artifact, runtime::Verify::kAll));
  const Clock::time_point load_start = Clock::now();
  runtime::EngineOptions engine_options{.device = device};
  ABQ_ASSIGN_OR_RETURN(engine_options.prefill_attention,
                       runtime::parse_prefill_attention(options.prefill_attention));
  ABQ_ASSIGN_OR_RETURN(const std::shared_ptr<const runtime::Engine> engine,
                       runtime::Engine::create(plan, engine_options));
  const double load_seconds = seconds_since(load_start);
  const proto::ModelInfo& model = plan->plan().model();
  // Both fit the model's context, with at least half of it for the prompt.
  const int64_t new_tokens =
      std::min(options.new_tokens.value_or(64), std::max<int64_t>(model.context() / 2, 1));
  const int64_t prompt_tokens = std::min(options.prompt_tokens.value_or(512),
                                         std::max<int64_t>(model.context() - new_tokens, 1));
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<runtime::Session> session,
                       engine->new_session({.max_tokens = prompt_tokens + new_tokens}));

  Random random(1);
  std::vector<int32_t> prompt(static_cast<size_t>(prompt_tokens));
  for (int32_t& id : prompt) {
    id = static_cast<int32_t>(random.below(static_cast<uint64_t>(model.vocab_size())));
  }
  std::vector<double> prefill;
  std::vector<double> decode;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    session->reset();
    Clock::time_point start = Clock::now();
    ABQ_RETURN_IF_ERROR(session->run(prompt).status());
    prefill.push_back(seconds_since(start));
    start = Clock::now();
    for (int64_t i = 0; i < new_tokens; ++i) {
      ABQ_RETURN_IF_ERROR(
          session->run_next({&prompt[static_cast<size_t>(i % prompt_tokens)], 1}, {}).status());
    }
    decode.push_back(seconds_since(start));
  }
  print_out("artifact     {} (scheme {})\n", options.artifact, plan->plan().recipe().scheme());
  print_out("device       {}, {} threads; load {}\n", engine->device_name(), num_threads(),
            human_seconds(load_seconds));
  print_out("memory       weights {}, session {}\n", human_bytes(engine->weight_bytes()),
            human_bytes(session->memory_bytes()));
  print_out("prefill      {:.1f} tokens/s ({} tokens, median of {})\n",
            static_cast<double>(prompt_tokens) / median(prefill), prompt_tokens, options.repeats);
  print_out(
      "decode       {:.1f} tokens/s, {:.3f} ms per token ({} tokens after {}, median of {})\n",
      static_cast<double>(new_tokens) / median(decode),
      1e3 * median(decode) / static_cast<double>(new_tokens), new_tokens, prompt_tokens,
      options.repeats);
  return {};
}

Status bench_shape(const BenchOptions& options) {
  if (options.device == "cpu") {
    return unsupported("bench --model-shape: random weights are made on a GPU; use --device cuda");
  }
  ModelBenchOptions model;
  model.shape = options.model_shape;
  if (!options.schemes.empty()) model.schemes = options.schemes;
  model.prompt_tokens = options.prompt_tokens.value_or(model.prompt_tokens);
  model.new_tokens = options.new_tokens.value_or(model.new_tokens);
  model.batch = options.batch;
  model.repeats = options.repeats;
  ABQ_ASSIGN_OR_RETURN(model.prefill_attention,
                       runtime::parse_prefill_attention(options.prefill_attention));
  return bench_model(model);
}

Status bench(const BenchOptions& options) {
  if (options.kernels) {
    KernelBenchOptions kernels = options.kernel_options;
    if (!options.schemes.empty()) kernels.schemes = options.schemes;
    kernels.device = options.device;
    return bench_kernels(kernels);
  }
  if (options.attention) {
    AttentionBenchOptions attention;
    if (!options.schemes.empty()) attention.schemes = options.schemes;
    attention.tokens = options.kernel_options.tokens;
    return bench_attention(attention);
  }
  if (!options.model_shape.empty()) return bench_shape(options);
  if (options.tune) return bench_tune({options.artifact, options.output, options.force});
  if (options.artifact.empty()) {
    return invalid_argument(
        "nothing to measure: give an artifact, --kernels, --attention or --model-shape");
  }
  return bench_artifact(options);
}

}  // namespace

void add_bench_command(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand("bench", "measure speed against floors and baselines");
  command->footer(
      "--kernels checks every result against the reference before it is timed.\n"
      "Examples:\n"
      "  abq bench llama.abq\n"
      "  abq bench --kernels --threads 2\n"
      "  abq bench --kernels --schemes w2a8,w4a8 -m 1,512 -n 4096 -k 14336\n"
      "  abq bench --kernels --device cuda --tokens 1,8,2048\n"
      "  abq bench --attention\n"
      "  abq bench llama.abq --tune -o llama-h200.abq\n"
      "  abq bench --model-shape llama-7b --schemes w2a8-kv8,w4a4-kv4,w4a4-kv4+rotate");
  command->add_option("artifact", options->artifact, "model.abq");
  command->add_flag("--kernels", options->kernels, "linear layers alone, on random weights");
  command->add_flag("--attention", options->attention,
                    "attention of prompts alone, on a GPU: this project's kernel and cuDNN's");
  CLI::Option* artifact = command->get_option("artifact");
  CLI::Option* tune = command->add_flag("--tune", options->tune,
                                        "which kernel is fastest for the artifact's linears on "
                                        "this GPU, by number of tokens");
  tune->needs(artifact);
  CLI::Option* output =
      command->add_option("-o,--output", options->output,
                          "with --tune: a copy of the artifact that carries the answer");
  output->needs(tune);
  command->add_flag("--force", options->force, "overwrite the output")->needs(output);
  command->add_option("--model-shape", options->model_shape,
                      "llama-7b, llama-13b or llama-70b with random weights, on a GPU");
  command->add_option("--batch", options->batch, "sequences that --model-shape decodes at once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--device", options->device, "auto, cpu or cuda")->capture_default_str();
  command
      ->add_option("--prefill-attention", options->prefill_attention,
                   "what models run prompts' attention with on a GPU: own (this project's kernel), "
                   "cudnn (wherever it can), auto (the faster)")
      ->capture_default_str();
  command
      ->add_option("--prompt-tokens", options->prompt_tokens,
                   "tokens of the prefill [512; model shapes 128]")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--new-tokens", options->new_tokens,
                   "tokens decoded after it [64; model shapes 256]")
      ->check(CLI::PositiveNumber);
  command->add_option("--repeats", options->repeats, "measurements; the median counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--schemes", options->schemes, "schemes to measure")
      ->delimiter(',')
      ->allow_extra_args(false);
  command
      ->add_option("-m,--tokens", options->kernel_options.tokens,
                   "values of M [1,512; on a GPU 1,8,2048]")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("-n,--outputs", options->kernel_options.n,
                      "N [4096; on a GPU all shapes of a 7B model]");
  command->add_option("-k,--inputs", options->kernel_options.k, "K [14336; on a GPU as N]");
  command->add_flag("--every-kernel", options->kernel_options.every_kernel,
                    "on a GPU: all kernels that can run, not only the one that would");
  command
      ->add_option("--rotate-mib", options->kernel_options.rotate_mib,
                   "weight copies to rotate over, so that caches stay cold (CPU, M = 1)")
      ->capture_default_str();
  command->callback([options, &exit_code] { exit_code = report_status(bench(*options)); });
}

}  // namespace abq::tools
