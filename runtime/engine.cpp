#include "runtime/engine.h"

#include "runtime/cpu_engine.h"

namespace abq::runtime {

Result<DeviceKind> parse_device_kind(std::string_view text) {
  if (text == "auto") return DeviceKind::kAuto;
  if (text == "cpu") return DeviceKind::kCpu;
  if (text == "cuda") return DeviceKind::kCuda;
  return invalid_argument("device '{}': expected auto, cpu or cuda", text);
}

Result<std::shared_ptr<const Engine>> Engine::create(std::shared_ptr<const LoadedPlan> plan,
                                                     const EngineOptions& options) {
  if (options.device == DeviceKind::kCuda) {
    return device_error("device cuda: this version has no CUDA kernels; use --device cpu or auto");
  }
  return CpuEngine::create(std::move(plan), options);
}

}  // namespace abq::runtime
