// abq inspect: the quality report stored inside an artifact.
#include <fmt/format.h>

#include "runtime/plan.h"
#include "tools/block_report_text.h"
#include "tools/commands.h"
#include "tools/console.h"
#include "tools/report_text.h"

namespace abq::tools {
namespace {

Status inspect(const std::string& path, bool json) {
  ABQ_ASSIGN_OR_RETURN(const std::shared_ptr<const runtime::LoadedPlan> loaded,
                       runtime::LoadedPlan::open(path, runtime::Verify::kAll));
  if (json) {
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
  return {};
}

}  // namespace

void add_inspect_command(CLI::App& app, int& exit_code) {
  struct Options {
    std::string artifact;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("inspect", "show the quality report of an artifact");
  command->footer(
      "Every checksum of the file is verified first.\n"
      "Examples:\n"
      "  abq inspect llama.abq\n"
      "  abq inspect llama.abq --json | jq '.layers[] | {name, sqnr: .weight.sqnr_db}'");
  command->add_option("artifact", options->artifact, "model.abq")->required();
  command->add_flag("--json", options->json, "machine-readable, on stdout");
  command->callback([options, &exit_code] {
    exit_code = report_status(inspect(options->artifact, options->json));
  });
}

}  // namespace abq::tools
