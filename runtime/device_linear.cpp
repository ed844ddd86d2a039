// The binary's side of the doors of runtime/cuda/bench in libabq_cuda.so.
#include "runtime/device_linear.h"

#include <array>

#include "compute/cuda_library.h"
#include "runtime/device_attention.h"
#include "runtime/device_baselines.h"

namespace abq::runtime {
namespace {

// Calls the library's function `name`, which makes a T from `args`.
template <class T, class... Args>
Result<std::unique_ptr<T>> create(const char* name, Args... args) {
  using Create = int (*)(const char*, Args..., T**, char*, size_t);
  ABQ_ASSIGN_OR_RETURN(void* function, compute::cuda_library_function(name));
  T* made = nullptr;
  std::array<char, 4096> text{};
  const int code = reinterpret_cast<Create>(function)(ABQ_RUNTIME_INTERFACE, args..., &made,
                                                      text.data(), text.size());
  if (code != 0) return Status(static_cast<StatusCode>(code), text.data());
  return std::unique_ptr<T>(made);
}

}  // namespace

Result<std::unique_ptr<DeviceLinear>> create_cuda_device_linear(const StoredWeights& weights,
                                                                int activation_bits) {
  return create<DeviceLinear>("abq_cuda_create_device_linear_for", &weights, activation_bits);
}

Result<std::unique_ptr<DeviceBaselines>> create_cuda_device_baselines() {
  return create<DeviceBaselines>("abq_cuda_create_device_baselines_for");
}

Result<std::unique_ptr<DeviceAttention>> create_cuda_device_attention() {
  return create<DeviceAttention>("abq_cuda_create_device_attention_for");
}

}  // namespace abq::runtime
