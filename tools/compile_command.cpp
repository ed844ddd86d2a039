// abq compile: the command line of the compilation.
#include "tools/allocation_text.h"
#include "tools/block_report_text.h"
#include "tools/byte_size.h"
#include "tools/commands.h"
#include "tools/compile.h"
#include "tools/console.h"
#include "tools/report_text.h"

namespace abq::tools {
namespace {

Status compile_and_print(const CompileOptions& options) {
  ABQ_ASSIGN_OR_RETURN(const CompileResult result, compile(options));
  print_summary(result.plan, result.file_size);
  print_layers(result.plan);
  write_out(blocks_text(result.plan.report()));
  write_out(allocation_table(result.plan.report()));
  print_out("wrote {} ({}), peak memory {}\n", options.output, human_bytes(result.file_size),
            human_bytes(peak_memory_bytes()));
  return {};
}

void add_recipe_options(CLI::App& command, CompileOptions& options) {
  command.add_option("--scheme", options.scheme, "bit widths, e.g. w2ba8-g128-kv8");
  command.add_option("--method", options.method,
                     "rtn, smooth, gptq, abq or best (default: with --calib best, or gptq and "
                     "--rotate where all widths are 6 bits or more; else rtn)");
  command.add_option("--calib", options.calibration_file, "calibration text (rtn needs none)");
  command.add_option("--calib-windows", options.calibration_windows, "windows of it to use (128)")
      ->check(CLI::PositiveNumber);
  command.add_option("--calib-context", options.calibration_context, "tokens a window (1024)")
      ->check(CLI::PositiveNumber);
  command.add_flag("--clip-search", options.clip_search, "search the clip ratio of every row");
  command.add_flag(
      "--rotate{hadamard}", options.rotation,
      "turn the model into coordinates that round better, before the method's own work "
      "(docs/rotation.md); --rotate=orthogonal: by a random orthogonal matrix");
  command.add_option("--recipe", options.recipe_file, "recipe file (JSON); flags override it");
}

// For CLI: `text` becomes the number of bytes that it says; what is wrong with it, or nothing.
std::string as_bytes(std::string& text) {
  const Result<uint64_t> bytes = parse_byte_size(text);
  if (!bytes.ok()) return bytes.status().message();
  text = std::to_string(*bytes);
  return {};
}

// Widths chosen by what they cost.
void add_target_options(CLI::App& command, CompileOptions& options) {
  const std::string group = "Bit allocation (docs/bit_allocation.md)";
  BitTarget& target = options.target;
  command
      .add_option(
          "--target-bits", target.bits,
          "a width for each layer, such that the linears take at most so many true bits per "
          "weight and the model loses least; the scheme gives all but the weights' widths")
      ->check(CLI::PositiveNumber)
      ->group(group);
  command
      .add_option("--target-size", target.file_size,
                  "the same for the size of the file: 1.5GiB, 1500MB or bytes")
      ->transform(CLI::Validator(as_bytes, "SIZE"))
      ->group(group);
  command
      .add_option("--max-kl", target.kl,
                  "the smallest linears with at most this KL divergence from the float model, in "
                  "nats per token of the calibration text")
      ->check(CLI::PositiveNumber)
      ->group(group);
  command
      .add_option("--candidate-bits", target.widths,
                  "widths to choose from, e.g. 2b,3,4 (2,2b,3,4,5,6,8)")
      ->delimiter(',')
      ->group(group);
  command
      .add_option("--sensitivity-windows", target.windows,
                  "calibration windows to measure sensitivities on (4)")
      ->check(CLI::PositiveNumber)
      ->group(group);
  command
      .add_flag("--split-launches", target.split_units,
                "let layers that read the same input have different widths: more choice, and more "
                "launches on a GPU")
      ->group(group);
}

// Methods abq and best: what is learned, how long, and where that is kept.
void add_learning_options(CLI::App& command, CompileOptions& options) {
  const std::string group = "Methods abq and best";
  CorrectionFlags& flags = options.correction;
  command.add_option("--epochs", flags.epochs, "passes over the calibration windows")
      ->check(CLI::Range(1, 10000))
      ->group(group);
  command.add_option("--batch", flags.batch, "windows a step")
      ->check(CLI::Range(1, 1000000))
      ->group(group);
  command
      .add_option("--seed", flags.seed,
                  "decides the order of the windows, and what --rotate draws (0)")
      ->group(group);
  command.add_flag("--no-akl", flags.no_akl, "without the loss on attention probabilities")
      ->group(group);
  command.add_flag("--no-dlc", flags.no_dlc, "without the double log-cosine loss")->group(group);
  command.add_flag("--mse", flags.mse, "with squared errors against both targets")->group(group);
  command
      .add_flag("--no-compensation", flags.no_compensation, "abq: no vectors on down projections")
      ->group(group);
  command
      .add_flag("--no-lwc", flags.no_lwc,
                "abq: no learned clip factors: full ranges, or what clip_start searches")
      ->group(group);
  command.add_flag("--no-let", flags.no_let, "abq: no channel scales")->group(group);
  command
      .add_option("--work-dir", options.work_dir,
                  "keeps what is learned, block by block, until the artifact is written: the same "
                  "command goes on from there (OUTPUT.work); of bit allocation, what widths cost, "
                  "for other targets, too")
      ->group(group);
  CLI::Option* restart =
      command.add_flag("--restart", options.restart, "discard what a stopped compilation learned")
          ->group(group);
  command.add_flag("!--no-resume", options.resume, "keep nothing on the way")
      ->excludes(restart)
      ->excludes("--work-dir")
      ->group(group);
}

void add_machine_options(CLI::App& command, CompileOptions& options) {
  command
      .add_option("--device", options.device,
                  "where calibrated methods compute: auto (CUDA where it works), cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command
      .add_option(
          "--mem-budget", options.memory_budget,
          "memory to use, e.g. 8G or 512M: hidden states of the calibration windows "
          "(4 x windows x context x hidden floats for abq, 6 x for best) that exceed half of it "
          "are kept "
          "in bf16, and in files beside the output if they still do; on the CPU, batches that "
          "do not learn in the other half go through in parts")
      ->transform(CLI::AsSizeValue(false));
}

void add_debug_options(CLI::App& command, CompileOptions& options) {
  command.add_option("--print-after", options.print_after, "print the IR after this pass, or all");
  command.add_option("--reproducer-dir", options.reproducer_dir,
                     "where a failing pass leaves the last good IR");
  command.add_flag("!--no-verify-each", options.verify_each, "skip the verifier between passes");
}

}  // namespace

void add_compile_command(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<CompileOptions>();
  CLI::App* command = app.add_subcommand("compile", "quantize a checkpoint into an artifact");
  command->footer(
      "Examples:\n"
      "  abq compile models/llama -o llama.abq --scheme w4a8\n"
      "  abq compile models/llama -o llama.abq --scheme w4a4-kv4-q4 --method smooth --calib "
      "text.txt\n"
      "  abq compile models/llama -o llama.abq --scheme w3a8 --method gptq --calib text.txt\n"
      "  abq compile models/llama -o llama.abq --scheme w2ba8 --method abq --calib text.txt\n"
      "  abq compile models/llama -o llama.abq --scheme w4a4-kv4-q4 --rotate\n"
      "  abq compile models/llama -o llama.abq --recipe mixed.json --force\n"
      "  abq compile models/llama -o llama.abq --scheme w4a8-kv8 --method gptq --rotate --calib "
      "text.txt --target-bits 3\n"
      "Schemes: w<bits>[b]a<bits>[-g<32|64|128>][-kv<bits>][-q<bits>][-sym]");
  command->add_option("model_dir", options->model_dir, "Hugging Face model folder")->required();
  command->add_option("-o,--output", options->output, "artifact to write")->required();
  add_recipe_options(*command, *options);
  add_target_options(*command, *options);
  add_machine_options(*command, *options);
  command->add_flag("--force", options->force, "replace an existing output");
  add_learning_options(*command, *options);
  add_debug_options(*command, *options);
  command->callback(
      [options, &exit_code] { exit_code = report_status(compile_and_print(*options)); });
}

}  // namespace abq::tools
