// abq run: streaming generation from an artifact.
#include <fmt/format.h>

#include <charconv>

#include "runtime/engine.h"
#include "runtime/generate.h"
#include "tools/commands.h"
#include "tools/console.h"
#include "tools/model_files.h"

namespace abq::tools {
namespace {

struct RunOptions {
  std::string artifact;
  std::string prompt;
  std::optional<std::string> prompt_ids;
  std::string device = "auto";
  int64_t new_tokens = 128;
  bool no_bos = false;
  bool echo = false;
  bool print_ids = false;
  bool ignore_stop = false;
  bool quiet = false;
  std::optional<float> temperature;
  std::optional<int> top_k;
  std::optional<float> top_p;
  std::optional<float> repetition_penalty;
  uint64_t seed = 0;
};

// "1,2,3" -> ids.
Result<std::vector<int32_t>> parse_ids(std::string_view text) {
  std::vector<int32_t> ids;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    int32_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + comma, id);
    if (error != std::errc() || end != text.data() + comma) {
      return invalid_argument(
          "--prompt-ids: '{}' is not a token id; expected ids like 1,15043,29871",
          text.substr(0, comma));
    }
    ids.push_back(id);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return ids;
}

Result<std::vector<int32_t>> prompt_tokens(const RunOptions& options,
                                           const tokenizer::Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  if (options.prompt_ids) {
    ABQ_ASSIGN_OR_RETURN(ids, parse_ids(*options.prompt_ids));
  } else {
    const auto special =
        options.no_bos ? tokenizer::SpecialTokens::kOmit : tokenizer::SpecialTokens::kAdd;
    Result<std::vector<int32_t>> encoded = tokenizer.encode(options.prompt, special);
    if (!encoded.ok()) return encoded.status().with_context("prompt");
    ids = std::move(encoded).value();
  }
  if (ids.empty()) {
    if (options.prompt_ids) return invalid_argument("--prompt-ids: empty; give at least one id");
    return invalid_argument("prompt: empty, and the tokenizer adds nothing to it; give -p TEXT");
  }
  return ids;
}

// The model's own defaults, with the command line's values on top.
runtime::SamplingOptions sampling_options(const RunOptions& options,
                                          const proto::GenerationDefaults& defaults) {
  runtime::SamplingOptions sampling;
  if (defaults.has_temperature()) sampling.temperature = defaults.temperature();
  if (defaults.has_top_k()) sampling.top_k = defaults.top_k();
  if (defaults.has_top_p()) sampling.top_p = defaults.top_p();
  if (defaults.has_repetition_penalty()) {
    sampling.repetition_penalty = defaults.repetition_penalty();
  }
  sampling.temperature = options.temperature.value_or(sampling.temperature);
  sampling.top_k = options.top_k.value_or(sampling.top_k);
  sampling.top_p = options.top_p.value_or(sampling.top_p);
  sampling.repetition_penalty = options.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.seed = options.seed;
  return sampling;
}

void print_stats(const runtime::GenerationStats& stats, std::string_view device) {
  const char* reason = stats.reason == runtime::StopReason::kStopToken ? "stop token" : "length";
  print_err("\n[{}: prompt {} tokens, {:.1f} tokens/s; {} new tokens, {:.1f} tokens/s; {}]\n",
            device, stats.prompt_tokens,
            static_cast<double>(stats.prompt_tokens) / std::max(stats.prefill_seconds, 1e-9),
            stats.new_tokens,
            static_cast<double>(stats.new_tokens) / std::max(stats.decode_seconds, 1e-9), reason);
}

Status run(const RunOptions& options) {
  ABQ_ASSIGN_OR_RETURN(const runtime::DeviceKind device,
                       runtime::parse_device_kind(options.device));
  ABQ_ASSIGN_OR_RETURN(std::shared_ptr<const runtime::LoadedPlan> plan,
                       runtime::LoadedPlan::open(options.artifact, runtime::Verify::kAll));
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<tokenizer::Tokenizer> tokenizer,
                       load_plan_tokenizer(*plan));
  ABQ_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, prompt_tokens(options, *tokenizer));
  ABQ_ASSIGN_OR_RETURN(const std::shared_ptr<const runtime::Engine> engine,
                       runtime::Engine::create(plan, {.device = device}));

  const proto::GenerationDefaults& defaults = plan->plan().generation();
  const std::vector<int32_t> stop_ids(defaults.stop_ids().begin(), defaults.stop_ids().end());
  runtime::GenerationOptions generation;
  generation.max_new_tokens = options.new_tokens;
  if (!options.ignore_stop) generation.stop_ids = stop_ids;
  generation.sampling = sampling_options(options, defaults);

  // The cache is as long as needed; what does not fit the model's context is refused by generate().
  const int64_t context = plan->plan().model().context();
  const int64_t wanted =
      static_cast<int64_t>(prompt.size()) + std::min(options.new_tokens, context);
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<runtime::Session> session,
                       engine->new_session({.max_tokens = std::min(wanted, context)}));

  tokenizer::StreamingDecoder decoder(*tokenizer);
  Status decode_status;
  const auto show = [&](Result<std::string> piece) {
    if (!piece.ok()) {
      decode_status = piece.status();
      return false;
    }
    write_out(*piece);
    return flush_out();
  };
  if (options.echo && !options.print_ids) {
    for (const int32_t id : prompt) {
      if (!show(decoder.push(id))) return decode_status;
    }
  }
  Result<runtime::GenerationStats> stats =
      runtime::generate(*session, prompt, generation, [&](int32_t id) {
        if (!options.print_ids) return show(decoder.push(id));
        print_out("{}\n", id);
        return flush_out();
      });
  ABQ_RETURN_IF_ERROR(stats.status());
  ABQ_RETURN_IF_ERROR(decode_status);
  if (!options.print_ids) {
    show(decoder.finish());
    print_out("\n");
  }
  if (!options.quiet) print_stats(*stats, engine->device_name());
  return decode_status;
}

}  // namespace

void add_run_command(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = app.add_subcommand("run", "generate text");
  command->footer(
      "Greedy unless the model's generation_config.json asks for sampling or --temperature is "
      "given.\n"
      "Examples:\n"
      "  abq run llama.abq -p \"The castle was built in\" -n 64\n"
      "  abq run llama.abq -p \"Once\" -n 200 --temperature 0.8 --top-p 0.95 --seed 7\n"
      "  abq run llama.abq --prompt-ids 1,450,4996 -n 8 --print-ids");
  command->add_option("artifact", options->artifact, "model.abq")->required();
  CLI::Option* prompt = command->add_option("-p,--prompt", options->prompt, "text to continue");
  command->add_option("--prompt-ids", options->prompt_ids, "token ids to continue, as they are")
      ->excludes(prompt);
  command->add_option("-n,--new-tokens", options->new_tokens, "most tokens to generate")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--device", options->device, "auto, cpu or cuda")->capture_default_str();
  command->add_flag("--no-bos", options->no_bos, "do not let the tokenizer add special tokens");
  command->add_flag("--echo", options->echo, "print the prompt too");
  command->add_flag("--print-ids", options->print_ids, "print token ids, one a line");
  command->add_flag("--ignore-stop", options->ignore_stop, "go on past stop tokens");
  command->add_flag("--quiet", options->quiet, "no statistics on stderr");
  command->add_option("--temperature", options->temperature, "0 = greedy");
  command->add_option("--top-k", options->top_k, "sample among the k best; 0 = all");
  command->add_option("--top-p", options->top_p,
                      "sample among the smallest set of this probability");
  command->add_option("--repetition-penalty", options->repetition_penalty, "1 = none");
  command->add_option("--seed", options->seed, "seed of the sampler")->capture_default_str();
  command->callback([options, &exit_code] { exit_code = report_status(run(*options)); });
}

}  // namespace abq::tools
