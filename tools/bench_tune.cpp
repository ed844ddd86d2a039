#include "tools/bench_tune.h"

#include <fmt/format.h>

#include "backend/backend.h"
#include "runtime/device_engine.h"
#include "runtime/plan_program.h"
#include "tools/console.h"

namespace abq::tools {
namespace {

void print_tuning(const runtime::Tuning& tuning) {
  print_out("{}\n{:<10} {:>9} {:>7} {:>6} {:>7} {:>7}  {:<18} {:>9}\n", tuning.device, "weights",
            "act. bits", "groups", "N", "K", "M up to", "kernel", "us");
  for (const runtime::TunedChoice& choice : tuning.choices) {
    print_out("{:<10} {:>9} {:>7} {:>6} {:>7} {:>7}  {:<18} {:>9.2f}\n",
              choice.base5 ? "base 5" : fmt::format("{} planes", choice.planes),
              choice.activation_bits, choice.group_size, choice.n, choice.k,
              choice.max_m == 0 ? "any" : std::to_string(choice.max_m), choice.kernel, choice.us);
  }
}

proto::Tuning to_proto(const runtime::Tuning& tuning) {
  proto::Tuning message;
  message.set_device(tuning.device);
  for (const runtime::TunedChoice& choice : tuning.choices) {
    proto::Tuning::Choice& added = *message.add_choices();
    added.set_planes(static_cast<uint32_t>(choice.planes));
    added.set_base5(choice.base5);
    added.set_group_size(static_cast<uint32_t>(choice.group_size));
    added.set_activation_bits(static_cast<uint32_t>(choice.activation_bits));
    added.set_n(choice.n);
    added.set_k(choice.k);
    added.set_max_m(choice.max_m);
    added.set_kernel(choice.kernel);
  }
  return message;
}

// The artifact's blobs as they are, its plan with this device's tuning in place of an older one.
Status write_tuned(const runtime::LoadedPlan& plan, const runtime::Tuning& tuning,
                   const TuneOptions& options) {
  ABQ_ASSIGN_OR_RETURN(
      const std::unique_ptr<backend::ArtifactWriter> writer,
      backend::ArtifactWriter::create(options.output, {.overwrite = options.force}));
  for (int i = 0; i < plan.plan().blobs_size(); ++i) {
    const proto::Blob& blob = plan.plan().blobs(i);
    ABQ_RETURN_IF_ERROR(writer
                            ->add_blob(blob.name(), blob.type(),
                                       {blob.shape().begin(), blob.shape().end()}, blob.code_bits(),
                                       plan.blob_bytes(static_cast<uint32_t>(i)))
                            .status());
    plan.drop_blob_pages(static_cast<uint32_t>(i));
  }
  proto::Plan message = plan.plan();
  message.clear_tunings();
  for (const proto::Tuning& kept : plan.plan().tunings()) {
    if (kept.device() != tuning.device) *message.add_tunings() = kept;
  }
  *message.add_tunings() = to_proto(tuning);
  ABQ_RETURN_IF_ERROR(writer->write_plan(std::move(message)));
  ABQ_RETURN_IF_ERROR(writer->commit());
  print_out("wrote {} ({})\n", options.output, human_bytes(writer->size()));
  return {};
}

}  // namespace

Status bench_tune(const TuneOptions& options) {
  ABQ_ASSIGN_OR_RETURN(const std::shared_ptr<const runtime::LoadedPlan> plan,
                       runtime::LoadedPlan::open(options.artifact, runtime::Verify::kAll));
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<runtime::DeviceEngine> engine,
                       runtime::create_cuda_device_engine(runtime::make_program(plan)));
  ABQ_ASSIGN_OR_RETURN(const runtime::Tuning tuning, engine->tune());
  if (tuning.choices.empty()) {
    return invalid_argument(
        "{}: no linear with quantized activations; there is nothing to choose among",
        options.artifact);
  }
  print_tuning(tuning);
  return options.output.empty() ? Status() : write_tuned(*plan, tuning, options);
}

}  // namespace abq::tools
