#include "runtime/cuda/launch.cuh"

#include <mutex>

namespace abq::runtime::cuda {
namespace {

__global__ void probe() {}

}  // namespace

bool launches_overlap() {
  static const bool overlap = [] {
    cudaFuncAttributes attributes{};
    return cudaFuncGetAttributes(&attributes, probe) == cudaSuccess && attributes.ptxVersion >= 90;
  }();
  return overlap;
}

cudaError_t allow_shared(const void* kernel, unsigned bytes) {
  constexpr unsigned kNeverAsked = 32 << 10;  // 48 KiB less any kernel's own arrays
  if (bytes <= kNeverAsked) return cudaSuccess;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  if (static_cast<unsigned>(attributes.maxDynamicSharedSizeBytes) >= bytes) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

}  // namespace abq::runtime::cuda
