// abq doctor: what this machine, this binary and this artifact can do together.
#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <map>

#include "compute/tensor_device.h"
#include "proto/artifact_format.h"
#include "runtime/cuda_library.h"
#include "runtime/engine.h"
#include "runtime/self_test.h"
#include "support/cpu_features.h"
#include "support/parallel.h"
#include "support/version.h"
#include "tools/commands.h"
#include "tools/console.h"

namespace abq::tools {
namespace {

void describe_machine() {
  struct sysinfo info {};
  ::sysinfo(&info);
  const int64_t unit = static_cast<int64_t>(info.mem_unit);
  print_out("processor    {}, {} threads, instruction set {}\n", cpu_model_name(), num_threads(),
            cpu_isa_name(cpu_isa()));
  print_out("memory       {} free of {}\n",
            human_bytes(static_cast<int64_t>(info.freeram + info.bufferram) * unit),
            human_bytes(static_cast<int64_t>(info.totalram) * unit));
  const Result<std::string> code = runtime::cuda_device_code();
  print_out("binary       abq {}, artifact format up to {}, kernels for: cpu{}\n", version(),
            proto::kFormatVersion, code.ok() ? fmt::format(", cuda ({})", *code) : "");
  const Result<std::vector<std::string>> devices = runtime::describe_cuda_devices();
  if (!devices.ok()) print_out("accelerator  none: {}\n", devices.status().message());
  if (devices.ok())
    for (const std::string& device : *devices)
      print_out("accelerator  {}\n", device);
  if (code.ok()) {
    const Result<std::string> cudnn = runtime::cudnn_version();
    print_out("cuDNN        {}\n", cudnn.ok() ? *cudnn + ", for attention of prompts"
                                              : "none: " + cudnn.status().message());
  }
  const auto cuda = compute::create_cuda_tensor_device();
  print_out("learning     {}\n", cuda.ok() ? fmt::format("on {}", (*cuda)->name())
                                           : "on the CPU: " + cuda.status().message());
}

// Kernel -> number of steps that run it.
std::map<std::string, int> count_kernels(const runtime::Engine& engine, int64_t m) {
  std::map<std::string, int> counts;
  for (int step = 0; step < engine.plan().plan().steps_size(); ++step) {
    ++counts[engine.kernel_name(step, m)];
  }
  return counts;
}

Status check_artifact(const std::string& path) {
  ABQ_ASSIGN_OR_RETURN(std::shared_ptr<const runtime::LoadedPlan> plan,
                       runtime::LoadedPlan::open(path, runtime::Verify::kAll));
  print_out("artifact     {} ({}, scheme {}), every checksum right\n", path,
            human_bytes(plan->file_size()), plan->plan().recipe().scheme());
  ABQ_ASSIGN_OR_RETURN(const std::shared_ptr<const runtime::Engine> engine,
                       runtime::Engine::create(plan, {}));
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<runtime::Session> session, engine->new_session({}));
  print_out("device       {}: weights {}, a session of {} tokens {}\n", engine->device_name(),
            human_bytes(engine->weight_bytes()), session->capacity(),
            human_bytes(session->memory_bytes()));
  for (const int64_t m : {1, 512}) {
    print_out("kernels      {} tokens:", m);
    for (const auto& [name, count] : count_kernels(*engine, m))
      print_out(" {}x{}", count, name);
    print_out("\n");
  }
  ABQ_RETURN_IF_ERROR(runtime::run_self_test(*engine));
  print_out("self-test    passed: this machine computes what the compiling one did\n");
  return {};
}

Status doctor(const std::string& artifact) {
  describe_machine();
  return artifact.empty() ? Status() : check_artifact(artifact);
}

}  // namespace

void add_doctor_command(CLI::App& app, int& exit_code) {
  auto artifact = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "doctor", "what this machine, this binary and an artifact can do together");
  command->footer("Examples:\n  abq doctor\n  abq doctor llama.abq");
  command->add_option("artifact", *artifact, "model.abq to load and self-test");
  command->callback([artifact, &exit_code] { exit_code = report_status(doctor(*artifact)); });
}

}  // namespace abq::tools
