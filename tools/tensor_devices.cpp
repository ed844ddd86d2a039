#include "tools/tensor_devices.h"

#include "support/log.h"

namespace abq::tools {

Result<std::shared_ptr<compute::TensorDevice>> create_tensor_device(std::string_view choice) {
  using Device = std::shared_ptr<compute::TensorDevice>;
  if (choice == "cpu") return Device(compute::create_cpu_tensor_device());
  if (choice != "cuda" && choice != "auto")
    return invalid_argument("device '{}': expected auto, cpu or cuda", choice);
  Result<std::unique_ptr<compute::TensorDevice>> cuda = compute::create_cuda_tensor_device();
  if (cuda.ok()) return Device(std::move(cuda).value());
  if (choice == "cuda" || cuda.status().code() != StatusCode::kUnsupported) return cuda.status();
  spdlog::info("calibrating on the CPU: {}", cuda.status().message());
  return Device(compute::create_cpu_tensor_device());
}

}  // namespace abq::tools
