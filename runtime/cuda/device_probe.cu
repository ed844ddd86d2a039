// What CUDA devices this machine has: the first entry point of libabq_cuda.so.
//
// The library is opened at run time (compute/cuda_library.cpp), so the abq binary starts where no
// driver is installed. Its interface is C: it is built by another compiler driver than its caller.
#include <cuda_runtime.h>

#include <cstdio>

extern "C" {

// Writes one line a device ("NVIDIA H200, sm_90, 140.1 GB, driver 13.0") to `text`, cut at `size`.
// Returns the number of devices, or minus the CUDA error that stopped it with its words in `text`.
__attribute__((visibility("default"))) int abq_cuda_describe_devices(char* text, size_t size) {
  int count = 0;
  int driver = 0;
  cudaError_t error = cudaDriverGetVersion(&driver);
  if (error == cudaSuccess && driver == 0) {
    std::snprintf(text, size, "no driver on this machine");
    return -static_cast<int>(cudaErrorInsufficientDriver);
  }
  if (error == cudaSuccess) error = cudaGetDeviceCount(&count);
  size_t used = 0;
  text[0] = '\0';
  for (int device = 0; device < count && error == cudaSuccess; ++device) {
    cudaDeviceProp properties{};
    error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess || used >= size) break;
    const int written = std::snprintf(
        text + used, size - used, "%s, sm_%d%d, %.1f GB, driver %d.%d\n", properties.name,
        properties.major, properties.minor, static_cast<double>(properties.totalGlobalMem) * 1e-9,
        driver / 1000, driver % 1000 / 10);
    used += static_cast<size_t>(written);
  }
  if (error == cudaSuccess) return count;
  std::snprintf(text, size, "%s", cudaGetErrorString(error));
  return -static_cast<int>(error);
}

// What runs on a device without translation, and what a driver translates (abq_cuda_options).
__attribute__((visibility("default"))) const char* abq_cuda_device_code() {
  return ABQ_CUDA_DEVICE_CODE;
}

}  // extern "C"
