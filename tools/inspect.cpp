// abq inspect: the quality report stored inside an artifact.
#include <fmt/format.h>

#include "backend/backend.h"
#include "runtime/plan.h"
#include "tools/allocation_text.h"
#include "tools/block_report_text.h"
#include "tools/commands.h"
#include "tools/console.h"
#include "tools/report_text.h"

namespace abq::tools {
namespace {

struct InspectOptions {
  std::string artifact;
  bool json = false;
  bool recipe = false;
};

Status inspect(const InspectOptions& options) {
  ABQ_ASSIGN_OR_RETURN(const std::shared_ptr<const runtime::LoadedPlan> loaded,
                       runtime::LoadedPlan::open(options.artifact, runtime::Verify::kAll));
  if (options.recipe) {
    ABQ_ASSIGN_OR_RETURN(const quant::Recipe recipe, backend::from_proto(loaded->plan().recipe()));
    print_out("{}", backend::recipe_to_json(recipe));
    return {};
  }
  if (options.json) {
    print_out("{}\n", report_json(loaded->plan(), loaded->file_size()));
    return {};
  }
  print_summary(loaded->plan(), loaded->file_size());
  const proto::Provenance& provenance = loaded->plan().provenance();
  print_out("compiled by  abq {} on {}\n", provenance.tool_version(), provenance.device());
  for (const proto::Provenance::Input& input : provenance.inputs()) {
    print_out("input        {} ({}, digest {})\n", input.name(),
              human_bytes(static_cast<int64_t>(input.size())), input.digest());
  }
  print_out("\n");
  print_layers(loaded->plan());
  write_out(blocks_text(loaded->plan().report()));
  write_out(allocation_table(loaded->plan().report()));
  return {};
}

}  // namespace

void add_inspect_command(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand("inspect", "show the quality report of an artifact");
  command->footer(
      "Every checksum of the file is verified first.\n"
      "Examples:\n"
      "  abq inspect llama.abq\n"
      "  abq inspect llama.abq --recipe > mixed.json\n"
      "  abq inspect llama.abq --json | jq '.layers[] | {name, sqnr: .weight.sqnr_db}'");
  command->add_option("artifact", options->artifact, "model.abq")->required();
  CLI::Option* json = command->add_flag("--json", options->json, "machine-readable, on stdout");
  command
      ->add_flag(
          "--recipe", options->recipe,
          "the recipe alone, as abq compile --recipe takes it, with the widths that a target "
          "chose")
      ->excludes(json);
  command->callback([options, &exit_code] { exit_code = report_status(inspect(*options)); });
}

}  // namespace abq::tools
