// Hugging Face checkpoint -> quantized artifact, step by step.
#include "tools/compile.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "backend/backend.h"
#include "frontend/frontend.h"
#include "passes/layers.h"
#include "passes/pass.h"
#include "runtime/engine.h"
#include "runtime/self_test.h"
#include "support/log.h"
#include "support/mapped_file.h"
#include "support/version.h"
#include "tools/bit_allocation.h"
#include "tools/block_progress.h"
#include "tools/console.h"
#include "tools/fingerprint.h"
#include "tools/memory_budget.h"
#include "tools/model_files.h"
#include "tools/tensor_devices.h"
#include "tools/work_folder.h"

namespace abq::tools {
namespace {

// What every attempt at a compilation starts from.
struct CompileInputs {
  frontend::Checkpoint checkpoint;
  ModelTokenizer tokenizer;
  proto::GenerationDefaults generation;
  quant::Recipe recipe;
  std::vector<std::vector<int32_t>> calibration_windows;
  std::shared_ptr<compute::TensorDevice> device;  // null when not calibrated
};

Status load_calibration(const CompileOptions& options, CompileInputs& inputs) {
  if (options.calibration_file.empty()) return {};
  ABQ_ASSIGN_OR_RETURN(const std::string text, read_text_file(options.calibration_file));
  quant::CalibrationSettings& settings = inputs.recipe.calibration;
  settings.context = std::min(settings.context, inputs.checkpoint.module.int_attribute("context"));
  Result<std::vector<std::vector<int32_t>>> windows = frontend::calibration_windows(
      *inputs.tokenizer.tokenizer, text, settings.windows, settings.context);
  if (!windows.ok()) return windows.status().with_context(options.calibration_file);
  inputs.calibration_windows = std::move(windows).value();
  ABQ_ASSIGN_OR_RETURN(inputs.device, create_tensor_device(options.device));
  return {};
}

Result<CompileInputs> load_inputs(const CompileOptions& options) {
  CompileInputs inputs;
  ABQ_ASSIGN_OR_RETURN(inputs.recipe, make_recipe(options));
  ABQ_ASSIGN_OR_RETURN(inputs.checkpoint, frontend::import_checkpoint(options.model_dir));
  ABQ_ASSIGN_OR_RETURN(inputs.tokenizer, load_model_tokenizer(options.model_dir));
  ABQ_ASSIGN_OR_RETURN(
      inputs.generation,
      generation_defaults(inputs.checkpoint.generation_config_json, inputs.checkpoint.config_json));
  ABQ_RETURN_IF_ERROR(load_calibration(options, inputs));
  return inputs;
}

passes::PassContext make_context(const CompileInputs& inputs) {
  passes::PassContext context;
  context.recipe = inputs.recipe;
  context.calibration_windows = inputs.calibration_windows;
  context.tensor_device = inputs.device;
  return context;
}

// What learned numbers are learned on: the weights' share of it happens on the CPU.
std::string device_words(const compute::TensorDevice& device) {
  const std::string_view host = compute::cpu_device().name();
  return device.on_host() ? std::string(host)
                          : fmt::format("{} with {}", device.description(), host);
}

// Streams that a method keeps at a time: inputs and outputs of a block, float and, behind quantized
// blocks, quantized; gptq has windows that stand within a block instead of the float ones, and best
// beside them.
int64_t streams_of(const quant::Recipe& recipe) {
  if (recipe.method == "best") return 6;
  return recipe.method == "abq" || recipe.method == "gptq" ? 4 : 2;
}

// Where the hidden states of the calibration windows are kept. Half precision is an input like any
// other, so the report says so.
void choose_streams(const CompileOptions& options, const ir::Module& module,
                    const std::string& folder, passes::PassContext& context) {
  const quant::CalibrationSettings& calibration = context.recipe.calibration;
  if (context.recipe.method == "gptq") context.float_windows = passes::kQualityWindows;
  context.stream_options = stream_options(static_cast<int64_t>(options.memory_budget),
                                          {.streams = streams_of(context.recipe),
                                           .windows = std::ssize(context.calibration_windows),
                                           .context = calibration.context,
                                           .hidden = module.int_attribute("hidden_size")},
                                          folder);
  if (context.stream_options.precision == passes::StreamOptions::Precision::kBFloat16)
    context.report.notes.push_back("hidden states of the calibration windows were kept in bf16");
}

// Device, streams and work folder of a calibrated compilation; the folder is null where nothing is
// learned or kept.
Result<std::unique_ptr<WorkFolder>> prepare_passes(const CompileOptions& options,
                                                   const frontend::Checkpoint& checkpoint,
                                                   passes::PassContext& context) {
  std::unique_ptr<WorkFolder> folder;
  if (!context.calibrated()) return folder;
  context.report.notes.push_back(fmt::format("calibrated on {}", context.tensor_device->name()));
  // The other half of the budget; a GPU has memory of its own.
  if (context.tensor_device->on_host())
    context.learning_memory = static_cast<int64_t>(options.memory_budget / 2);
  const bool keeps_work = context.recipe.learned() && options.resume;
  const std::string work_dir = work_folder_path(options);
  const std::string beside_output = std::filesystem::path(options.output).parent_path().string();
  choose_streams(options, checkpoint.module,
                 keeps_work              ? work_dir
                 : beside_output.empty() ? std::string(".")
                                         : beside_output,
                 context);
  if (!keeps_work) return folder;
  // Blocks do not depend on what comes behind the last one.
  quant::Recipe learned_recipe = context.recipe;
  learned_recipe.distillation = {};
  const proto::Fingerprint fingerprint =
      make_fingerprint(checkpoint, learned_recipe, context.calibration_windows,
                       device_words(*context.tensor_device), context.stream_options.precision);
  ABQ_ASSIGN_OR_RETURN(folder, WorkFolder::open(work_dir, fingerprint, options.restart));
  context.learned_blocks = folder.get();
  return folder;
}

// Runs the pipeline block by block, each finished block straight into the artifact.
Status run_pipeline(const CompileOptions& options, const WorkFolder* folder, ir::Module& module,
                    passes::PassContext& context, backend::PlanBuilder& builder) {
  ABQ_ASSIGN_OR_RETURN(const std::vector<passes::PipelineStep> pipeline,
                       passes::pipeline_for(context.recipe, context.calibrated()));
  passes::PassManager manager({.verify_each = options.verify_each,
                               .print_after = options.print_after,
                               .reproducer_dir = options.reproducer_dir});
  for (const passes::PipelineStep& step : pipeline)
    ABQ_RETURN_IF_ERROR(manager.add(step.pass));

  // The embedding comes first in the plan. When the first block is done it is what it will be, and
  // nobody needs it any more: a rotated one is a large table of floats.
  bool embed_lowered = false;
  const auto lower_embed = [&](ir::Module& m) -> Status {
    if (std::exchange(embed_lowered, true)) return {};
    ABQ_RETURN_IF_ERROR(builder.lower(m, m.regions.front()));
    passes::free_tensors(m, m.regions.front());
    return {};
  };
  const auto lower_block = [&](ir::Module& m, ir::Block& block) -> Status {
    ABQ_RETURN_IF_ERROR(lower_embed(m));
    return builder.lower(m, block);
  };
  BlockProgress progress;
  const auto resumed = [folder] { return folder != nullptr ? folder->loaded_blocks() : 0; };
  context.detail_progress = [&](std::string_view words, double fraction) {
    progress.detail(words, fraction, resumed());
  };
  const Status status = manager.run(module, context, lower_block,
                                    [&](int64_t done, int64_t total, std::string_view pass) {
                                      progress.update(done, total, pass, resumed());
                                    });
  context.detail_progress = {};
  ABQ_RETURN_IF_ERROR(status);
  progress.finish();
  if (resumed() > 0) {
    spdlog::info("{} of {} blocks taken up from {}", resumed(), module.int_attribute("layers"),
                 folder->path());
  }
  for (const passes::PassTiming& timing : manager.timings())
    spdlog::debug("pass {}: {}", timing.pass, human_seconds(timing.seconds));
  if (context.tensor_device)
    spdlog::debug("device {}: peak memory {}", context.tensor_device->name(),
                  human_bytes(context.tensor_device->peak_bytes()));
  ABQ_RETURN_IF_ERROR(lower_embed(module));
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

// Writes the plan, runs the finished file, and writes it again with what came out. `allocation` is
// null where the recipe gave all widths.
Status write_with_self_test(backend::ArtifactWriter& writer, const std::vector<int32_t>& sample,
                            const BitAllocation* allocation, proto::Plan& plan) {
  ABQ_RETURN_IF_ERROR(writer.write_plan(plan));
  {
    ABQ_ASSIGN_OR_RETURN(
        std::shared_ptr<const runtime::LoadedPlan> loaded,
        runtime::LoadedPlan::open(writer.temporary_path(), runtime::Verify::kPlan));
    // Weights stream through: the self-test must not be what needs the most memory.
    ABQ_ASSIGN_OR_RETURN(const std::shared_ptr<const runtime::Engine> engine,
                         runtime::Engine::create(loaded, {.device = runtime::DeviceKind::kCpu,
                                                          .stream_weights = true}));
    ABQ_ASSIGN_OR_RETURN(*plan.mutable_self_test(), runtime::make_self_test(*engine, sample));
    plan.mutable_provenance()->set_device(std::string(engine->device_name()));
    if (allocation != nullptr) {
      ABQ_ASSIGN_OR_RETURN(const double kl, allocation->measure_artifact(std::move(loaded)));
      plan.mutable_report()->mutable_allocation()->set_measured_kl(kl);
    }
  }
  // The figure for the whole file is stored in the file: its size does not depend on its value.
  plan.mutable_report()->set_block_linear_bits(backend::block_linear_bits(plan));
  plan.mutable_report()->set_file_bits(1.0);
  ABQ_RETURN_IF_ERROR(writer.write_plan(plan));
  plan.mutable_report()->set_file_bits(backend::file_bits(plan, writer.size()));
  return writer.write_plan(plan);
}

// The finished file, not yet under its name.
struct Attempt {
  std::unique_ptr<backend::ArtifactWriter> writer;
  std::unique_ptr<WorkFolder> folder;
  proto::Plan plan;
};

Result<Attempt> compile_once(const CompileOptions& options, const CompileInputs& inputs,
                             const BitAllocation* allocation) {
  passes::PassContext context = make_context(inputs);
  if (allocation != nullptr) ABQ_RETURN_IF_ERROR(allocation->choose(context));
  Attempt made;
  ABQ_ASSIGN_OR_RETURN(
      made.writer, backend::ArtifactWriter::create(options.output, {.overwrite = options.force}));
  ABQ_ASSIGN_OR_RETURN(made.folder, prepare_passes(options, inputs.checkpoint, context));

  ir::Module module = inputs.checkpoint.module;  // handles
  backend::PlanBuilder builder(*made.writer);
  ABQ_RETURN_IF_ERROR(run_pipeline(options, made.folder.get(), module, context, builder));
  for (quant::LayerReport& layer : context.report.layers) {
    const auto kernel = builder.kernels().find(layer.name);
    layer.kernel = kernel == builder.kernels().end() ? "cpu.float" : kernel->second;
  }
  ABQ_ASSIGN_OR_RETURN(made.plan, builder.finish(module));
  *made.plan.mutable_generation() = inputs.generation;
  ABQ_RETURN_IF_ERROR(
      describe(inputs.checkpoint, inputs.tokenizer, context, *made.writer, made.plan));
  ABQ_ASSIGN_OR_RETURN(const std::vector<int32_t> sample,
                       self_test_tokens(*inputs.tokenizer.tokenizer, made.plan.model().context()));
  ABQ_RETURN_IF_ERROR(write_with_self_test(*made.writer, sample, allocation, made.plan));
  return made;
}

constexpr int kAttempts = 3;

// Attempts choose other widths, so that each has a work folder of its own: the first the one that
// the user knows, the others folders in it. All stay until the last attempt has ended: a
// compilation that was stopped takes up what they have.
class Attempts {
 public:
  explicit Attempts(const CompileOptions& options) : options_(options) {
    if (options.restart) discard_later();
  }

  CompileOptions options_of(int attempt) const {
    CompileOptions options = options_;
    if (attempt > 1) options.work_dir = path(attempt);
    return options;
  }
  void keep(std::unique_ptr<WorkFolder> folder) {
    if (folder != nullptr) folders_.push_back(std::move(folder));
  }
  // Those of an earlier compilation, too, which needed more attempts.
  void remove_folders() {
    for (; folders_.size() > 1; folders_.pop_back())
      folders_.back()->remove();
    if (options_.target.given()) discard_later();
    if (!folders_.empty()) folders_.front()->remove();
  }

 private:
  std::string path(int attempt) const {
    return fmt::format("{}/attempt-{}", work_folder_path(options_), attempt);
  }
  void discard_later() const {
    for (int attempt = kAttempts; attempt > 1; --attempt)
      WorkFolder::discard(path(attempt));
  }

  const CompileOptions& options_;
  std::vector<std::unique_ptr<WorkFolder>> folders_;
};

}  // namespace

std::string work_folder_path(const CompileOptions& options) {
  return options.work_dir.empty() ? options.output + ".work" : options.work_dir;
}

Result<CompileResult> compile(const CompileOptions& options) {
  ABQ_ASSIGN_OR_RETURN(const CompileInputs inputs, load_inputs(options));
  std::optional<BitAllocation> allocation;
  if (options.target.given()) {
    // Whatever forbids the output is said before minutes of measuring.
    ABQ_RETURN_IF_ERROR(
        backend::ArtifactWriter::create(options.output, {.overwrite = options.force}).status());
    ABQ_ASSIGN_OR_RETURN(allocation,
                         BitAllocation::measure(options, inputs.checkpoint, make_context(inputs),
                                                std::ssize(inputs.tokenizer.bytes)));
  }
  Attempts attempts(options);
  for (int attempt = 1; attempt <= kAttempts; ++attempt) {
    ABQ_ASSIGN_OR_RETURN(Attempt made, compile_once(attempts.options_of(attempt), inputs,
                                                    allocation ? &*allocation : nullptr));
    attempts.keep(std::move(made.folder));
    const int64_t file_size = made.writer->size();
    if (allocation && !allocation->accept(made.plan.report(), file_size)) continue;
    ABQ_RETURN_IF_ERROR(made.writer->commit());
    attempts.remove_folders();
    if (allocation) allocation->remove_work();
    return CompileResult{std::move(made.plan), file_size};
  }
  attempts.remove_folders();
  return invalid_argument("{}: missed by {} choices of widths, each stricter than the last",
                          options.target.kl > 0 ? "--max-kl" : "--target-size", kAttempts);
}

}  // namespace abq::tools
