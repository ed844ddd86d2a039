#include "compute/cuda/find_device.h"

#include <cuda_runtime_api.h>

#include "compute/cuda/attention_kernels.h"

namespace abq::compute::cuda {
namespace {

constexpr int kDevice = 0;

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// Why the CUDA runtime cannot start here; each reason has its own remedy. Unsupported is what this
// machine lacks; whatever else goes wrong is a failure of a device that is there.
Status find_device() {
  int driver = 0;
  int count = 0;
  cudaError_t error = cudaDriverGetVersion(&driver);
  if ((error == cudaSuccess && driver == 0) || error == cudaErrorStubLibrary) {
    return unsupported("cuda: no NVIDIA driver on this machine; install one or use the CPU");
  }
  if (error == cudaSuccess) error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    return unsupported("cuda: the driver supports CUDA {}, this build needs {}; update the driver",
                       version_text(driver), version_text(CUDART_VERSION));
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    return unsupported(
        "cuda: the driver sees no device; check CUDA_VISIBLE_DEVICES or use the CPU");
  }
  if (error == cudaSuccess) error = cudaSetDevice(kDevice);
  if (error != cudaSuccess) return device_error("cuda: {}", cudaGetErrorString(error));
  return {};
}

Status check_code(int major, int minor) {
  const cudaError_t error = kernel_code_status();
  if (error == cudaSuccess) return {};
  static_cast<void>(cudaGetLastError());
  const bool no_code = error == cudaErrorNoKernelImageForDevice ||
                       error == cudaErrorUnsupportedPtxVersion ||
                       error == cudaErrorInvalidDeviceFunction;
  if (!no_code) return device_error("cuda: {}", cudaGetErrorString(error));
  return unsupported(
      "cuda: this build has no code that a device of architecture sm_{}{} runs ({}); it needs "
      "sm_80 or newer",
      major, minor, cudaGetErrorString(error));
}

}  // namespace

Result<CudaDevice> find_cuda_device() {
  ABQ_RETURN_IF_ERROR(find_device());
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, kDevice); error != cudaSuccess)
    return device_error("cuda: {}", cudaGetErrorString(error));
  ABQ_RETURN_IF_ERROR(check_code(properties.major, properties.minor));
  int driver = 0;
  if (const cudaError_t error = cudaDriverGetVersion(&driver); error != cudaSuccess)
    return device_error("cuda: {}", cudaGetErrorString(error));
  CudaDevice device;
  device.name = fmt::format("cuda-sm_{}{}", properties.major, properties.minor);
  device.product = properties.name;
  device.driver = version_text(driver);
  device.major = properties.major;
  device.minor = properties.minor;
  device.multiprocessors = properties.multiProcessorCount;
  return device;
}

}  // namespace abq::compute::cuda
