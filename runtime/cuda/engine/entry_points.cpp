// The door of the device engine in libabq_cuda.so (compute/cuda_library.h opens it).
#include <cstdio>
#include <cstring>
#include <exception>

#include "runtime/cuda/engine/cuda_device_engine.h"

extern "C" {

// Makes the engine of a program, which the caller deletes, for a caller whose interface
// (ABQ_RUNTIME_INTERFACE) is the one of this library. Returns 0, or the StatusCode of what went
// wrong with its words in `text`, cut at `size`.
__attribute__((visibility("default"))) int abq_cuda_create_device_engine_for(
    const char* interface, const abq::runtime::Program* program,
    abq::runtime::DeviceEngine** engine, char* text, size_t size) {
  if (std::strcmp(interface, ABQ_RUNTIME_INTERFACE) != 0) {
    std::snprintf(text, size,
                  "cuda: libabq_cuda.so is of build %s, its caller of build %s; install binary and "
                  "library of one build",
                  ABQ_RUNTIME_INTERFACE, interface);
    return static_cast<int>(abq::StatusCode::kUnsupported);
  }
  try {
    auto created = abq::runtime::cuda::CudaDeviceEngine::create(*program);
    if (!created.ok()) {
      std::snprintf(text, size, "%s", created.status().message().c_str());
      return static_cast<int>(created.status().code());
    }
    *engine = std::move(created).value().release();
    return 0;
  } catch (const std::exception& error) {
    std::snprintf(text, size, "cuda: %s", error.what());
    return static_cast<int>(abq::StatusCode::kInternal);
  }
}

}  // extern "C"
