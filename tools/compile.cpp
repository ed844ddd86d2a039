// abq compile: Hugging Face checkpoint -> quantized artifact.
#include "tools/compile.h"

#include <algorithm>

#include "backend/backend.h"
#include "frontend/frontend.h"
#include "passes/pass.h"
#include "runtime/engine.h"
#include "runtime/self_test.h"
#include "support/log.h"
#include "support/version.h"
#include "tools/commands.h"
#include "tools/console.h"
#include "tools/model_files.h"
#include "tools/report_text.h"

namespace abq::tools {
namespace {

// The recipe file, if any, with the flags of the command line on top.
Result<quant::Recipe> make_recipe(const CompileOptions& options) {
  quant::Recipe recipe;
  if (!options.recipe_file.empty()) {
    ABQ_ASSIGN_OR_RETURN(const std::string json, read_text_file(options.recipe_file));
    ABQ_ASSIGN_OR_RETURN(recipe, backend::recipe_from_json(json, options.recipe_file));
  } else if (options.scheme.empty()) {
    return invalid_argument("no scheme: give --scheme, e.g. --scheme w4a8, or a --recipe file");
  }
  if (!options.scheme.empty()) {
    ABQ_ASSIGN_OR_RETURN(recipe.scheme, quant::parse_scheme(options.scheme));
  }
  if (!options.method.empty()) recipe.method = options.method;
  if (options.calibration_windows > 0) recipe.calibration.windows = options.calibration_windows;
  if (options.calibration_context > 0) recipe.calibration.context = options.calibration_context;
  if (options.clip_search) recipe.clip_search = true;
  return recipe;
}

Status load_calibration(const CompileOptions& options, const frontend::Checkpoint& checkpoint,
                        const tokenizer::Tokenizer& tokenizer, passes::PassContext& context) {
  if (options.calibration_file.empty()) return {};
  ABQ_ASSIGN_OR_RETURN(const std::string text, read_text_file(options.calibration_file));
  quant::CalibrationSettings& settings = context.recipe.calibration;
  settings.context = std::min(settings.context, checkpoint.module.int_attribute("context"));
  Result<std::vector<std::vector<int32_t>>> windows =
      frontend::calibration_windows(tokenizer, text, settings.windows, settings.context);
  if (!windows.ok()) return windows.status().with_context(options.calibration_file);
  context.calibration_windows = std::move(windows).value();
  return {};
}

// Runs the pipeline block by block, each finished block straight into the artifact.
Status run_pipeline(const CompileOptions& options, ir::Module& module, passes::PassContext& context,
                    backend::PlanBuilder& builder) {
  ABQ_ASSIGN_OR_RETURN(const std::vector<passes::PipelineStep> pipeline,
                       passes::pipeline_for(context.recipe, context.calibrated()));
  passes::PassManager manager({.verify_each = options.verify_each,
                               .print_after = options.print_after,
                               .reproducer_dir = options.reproducer_dir});
  for (const passes::PipelineStep& step : pipeline)
    ABQ_RETURN_IF_ERROR(manager.add(step.pass));

  ABQ_RETURN_IF_ERROR(builder.lower(module, module.regions.front()));
  ProgressLine progress("block");
  ABQ_RETURN_IF_ERROR(manager.run(
      module, context, [&](ir::Module& m, ir::Block& block) { return builder.lower(m, block); },
      [&](int64_t done, int64_t total, std::string_view pass) {
        if (total > 0) progress.update(done, total, pass.empty() ? "done" : pass);
      }));
  progress.finish();
  for (const passes::PassTiming& timing : manager.timings()) {
    spdlog::debug("pass {}: {}", timing.pass, human_seconds(timing.seconds));
  }
  return builder.lower(module, module.regions.back());
}

// What of the plan is neither steps nor generation: recipe, report, provenance, tokenizer.
Status describe(const frontend::Checkpoint& checkpoint, const ModelTokenizer& tokenizer,
                const passes::PassContext& context, backend::ArtifactWriter& writer,
                proto::Plan& plan) {
  backend::to_proto(context.recipe, plan.mutable_recipe());
  backend::to_proto(context.report, plan.mutable_report());
  proto::Provenance& provenance = *plan.mutable_provenance();
  provenance.set_tool_version(std::string(version()));
  for (const frontend::Checkpoint::InputFile& input : checkpoint.inputs) {
    proto::Provenance::Input& entry = *provenance.add_inputs();
    entry.set_name(input.name);
    entry.set_size(static_cast<uint64_t>(input.size));
    entry.set_digest(input.digest);
  }
  return add_tokenizer(tokenizer, writer, plan);
}

// Writes the plan, runs the finished file, and writes it again with what came out.
Status write_with_self_test(backend::ArtifactWriter& writer, const std::vector<int32_t>& sample,
                            proto::Plan& plan) {
  ABQ_RETURN_IF_ERROR(writer.write_plan(plan));
  {
    ABQ_ASSIGN_OR_RETURN(
        std::shared_ptr<const runtime::LoadedPlan> loaded,
        runtime::LoadedPlan::open(writer.temporary_path(), runtime::Verify::kPlan));
    // Weights stream through: the self-test must not be what needs the most memory.
    ABQ_ASSIGN_OR_RETURN(
        const std::shared_ptr<const runtime::Engine> engine,
        runtime::Engine::create(std::move(loaded),
                                {.device = runtime::DeviceKind::kCpu, .stream_weights = true}));
    ABQ_ASSIGN_OR_RETURN(*plan.mutable_self_test(), runtime::make_self_test(*engine, sample));
    plan.mutable_provenance()->set_device(std::string(engine->device_name()));
  }
  // The figure for the whole file is stored in the file: its size does not depend on its value.
  plan.mutable_report()->set_block_linear_bits(backend::block_linear_bits(plan));
  plan.mutable_report()->set_file_bits(1.0);
  ABQ_RETURN_IF_ERROR(writer.write_plan(plan));
  plan.mutable_report()->set_file_bits(backend::file_bits(plan, writer.size()));
  return writer.write_plan(plan);
}

}  // namespace

Result<CompileResult> compile(const CompileOptions& options) {
  ABQ_ASSIGN_OR_RETURN(quant::Recipe recipe, make_recipe(options));
  ABQ_ASSIGN_OR_RETURN(frontend::Checkpoint checkpoint,
                       frontend::import_checkpoint(options.model_dir));
  ABQ_ASSIGN_OR_RETURN(const ModelTokenizer tokenizer, load_model_tokenizer(options.model_dir));
  ABQ_ASSIGN_OR_RETURN(
      const proto::GenerationDefaults generation,
      generation_defaults(checkpoint.generation_config_json, checkpoint.config_json));
  passes::PassContext context;
  context.recipe = std::move(recipe);
  ABQ_RETURN_IF_ERROR(load_calibration(options, checkpoint, *tokenizer.tokenizer, context));
  ABQ_ASSIGN_OR_RETURN(
      const std::unique_ptr<backend::ArtifactWriter> writer,
      backend::ArtifactWriter::create(options.output, {.overwrite = options.force}));

  backend::PlanBuilder builder(*writer);
  ABQ_RETURN_IF_ERROR(run_pipeline(options, checkpoint.module, context, builder));
  for (quant::LayerReport& layer : context.report.layers) {
    const auto kernel = builder.kernels().find(layer.name);
    layer.kernel = kernel == builder.kernels().end() ? "cpu.float" : kernel->second;
  }
  ABQ_ASSIGN_OR_RETURN(proto::Plan plan, builder.finish(checkpoint.module));
  *plan.mutable_generation() = generation;
  ABQ_RETURN_IF_ERROR(describe(checkpoint, tokenizer, context, *writer, plan));
  ABQ_ASSIGN_OR_RETURN(const std::vector<int32_t> sample,
                       self_test_tokens(*tokenizer.tokenizer, plan.model().context()));
  ABQ_RETURN_IF_ERROR(write_with_self_test(*writer, sample, plan));
  ABQ_RETURN_IF_ERROR(writer->commit());

  const int64_t file_size = writer->size();
  return CompileResult{std::move(plan), file_size};
}

namespace {

Status compile_and_print(const CompileOptions& options) {
  ABQ_ASSIGN_OR_RETURN(const CompileResult result, compile(options));
  print_summary(result.plan, result.file_size);
  print_layers(result.plan);
  print_out("wrote {} ({}), peak memory {}\n", options.output, human_bytes(result.file_size),
            human_bytes(peak_memory_bytes()));
  return {};
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
      "  abq compile models/llama -o llama.abq --recipe mixed.json --force\n"
      "Schemes: w<bits>[b]a<bits>[-g<32|64|128>][-kv<bits>][-q<bits>][-sym]");
  command->add_option("model_dir", options->model_dir, "Hugging Face model folder")->required();
  command->add_option("-o,--output", options->output, "artifact to write")->required();
  command->add_option("--scheme", options->scheme, "bit widths, e.g. w2ba8-g128-kv8");
  command->add_option("--method", options->method, "rtn (default) or smooth");
  command->add_option("--calib", options->calibration_file, "calibration text (rtn needs none)");
  command->add_option("--calib-windows", options->calibration_windows, "windows of it to use (128)")
      ->check(CLI::PositiveNumber);
  command->add_option("--calib-context", options->calibration_context, "tokens a window (1024)")
      ->check(CLI::PositiveNumber);
  command->add_flag("--clip-search", options->clip_search, "search the clip ratio of every row");
  command->add_option("--recipe", options->recipe_file, "recipe file (JSON); flags override it");
  command->add_flag("--force", options->force, "replace an existing output");
  command->add_option("--print-after", options->print_after,
                      "print the IR after this pass, or all");
  command->add_option("--reproducer-dir", options->reproducer_dir,
                      "where a failing pass leaves the last good IR");
  command->add_flag("!--no-verify-each", options->verify_each, "skip the verifier between passes");
  command->callback(
      [options, &exit_code] { exit_code = report_status(compile_and_print(*options)); });
}

}  // namespace abq::tools
