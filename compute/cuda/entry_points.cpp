// The door of compute/cuda in libabq_cuda.so (compute/cuda_library.h opens it).
#include <cstdio>
#include <cstring>

#include "compute/cuda/cuda_tensor_device.h"

extern "C" {

// Makes the tensor device of the first GPU, which the caller deletes, for a caller whose interface
// (ABQ_TENSOR_INTERFACE) is the one of this library. Returns 0, or the StatusCode of what is
// missing with its words in `text`, cut at `size`.
__attribute__((visibility("default"))) int abq_cuda_create_tensor_device_for(
    const char* interface, abq::compute::TensorDevice** device, char* text, size_t size) {
  if (std::strcmp(interface, ABQ_TENSOR_INTERFACE) != 0) {
    std::snprintf(text, size,
                  "cuda: libabq_cuda.so is of build %s, its caller of build %s; install binary and "
                  "library of one build",
                  ABQ_TENSOR_INTERFACE, interface);
    return static_cast<int>(abq::StatusCode::kUnsupported);
  }
  auto created = abq::compute::cuda::CudaTensorDevice::create();
  if (!created.ok()) {
    std::snprintf(text, size, "%s", created.status().message().c_str());
    return static_cast<int>(created.status().code());
  }
  *device = std::move(created).value().release();
  return 0;
}

}  // extern "C"
