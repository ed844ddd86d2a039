// abq opt: passes on textual IR, for tests and debugging.
#include <fmt/format.h>

#include <iostream>
#include <iterator>

#include "passes/opt.h"
#include "support/mapped_file.h"
#include "tools/commands.h"
#include "tools/console.h"

namespace abq::tools {
namespace {

struct OptOptions {
  std::string input;
  std::vector<std::string> passes;
  std::string scheme = "w4a8";
  std::string print_after;
  std::string reproducer_dir;
  int64_t calibration_windows = 4;
  int64_t calibration_context = 16;
  uint64_t seed = 0;
  bool clip_search = false;
  bool list = false;
};

void list_passes() {
  for (const passes::PassInfo& info : passes::pass_registry()) {
    print_out("{:<18} {}\n", info.name, info.help);
  }
}

Status opt(const OptOptions& options) {
  if (options.list) {
    list_passes();
    return {};
  }
  if (options.input.empty()) return invalid_argument("no input: give a file, or - for stdin");
  std::string text;
  if (options.input == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else {
    ABQ_ASSIGN_OR_RETURN(text, read_text_file(options.input));
  }
  passes::PassContext context;
  ABQ_ASSIGN_OR_RETURN(context.recipe.scheme, quant::parse_scheme(options.scheme));
  context.recipe.seed = options.seed;
  context.recipe.clip_search = options.clip_search;
  context.recipe.calibration = {options.calibration_windows, options.calibration_context};
  std::string output;
  ABQ_RETURN_IF_ERROR(passes::run_passes_on_text(
      text, options.input, options.passes, context, &output,
      {.print_after = options.print_after, .reproducer_dir = options.reproducer_dir}));
  print_out("{}", output);
  return {};
}

}  // namespace

void add_opt_command(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<OptOptions>();
  CLI::App* command = app.add_subcommand("opt", "run passes on textual IR");
  command->footer(
      "Calibration passes get synthetic tokens from --seed.\n"
      "Examples:\n"
      "  abq opt --list\n"
      "  abq opt --passes=assign-schemes,quantize,pack-weights --scheme w2ba8 block.air\n"
      "  abq opt block.air            parse, verify and print");
  command->add_option("input", options->input, "textual IR (.air), or - for stdin");
  command->add_option("--passes", options->passes, "passes in order, comma separated")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("--scheme", options->scheme, "scheme of every layer")->capture_default_str();
  command->add_option("--seed", options->seed, "seed of the synthetic tokens");
  command->add_option("--calib-windows", options->calibration_windows, "synthetic windows")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--calib-context", options->calibration_context, "tokens a window")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--clip-search", options->clip_search, "search the clip ratio of every row");
  command->add_option("--print-after", options->print_after,
                      "print the IR after this pass, or all");
  command->add_option("--reproducer-dir", options->reproducer_dir,
                      "where a failing pass leaves the last good IR");
  command->add_flag("--list", options->list, "list the passes there are");
  command->callback([options, &exit_code] { exit_code = report_status(opt(*options)); });
}

}  // namespace abq::tools
