// What libabq_cuda.so says of cuDNN (runtime/cuda_library.h asks).
#include <cstdio>

#include "runtime/cuda/cudnn/fused_attention.h"

extern "C" {

// Writes the version of the cuDNN that attention would use, or why there is none, to `text`, cut at
// `size`. Returns 0, or the StatusCode of the reason.
__attribute__((visibility("default"))) int abq_cuda_cudnn_version(char* text, size_t size) {
  const abq::Result<std::string> version = abq::runtime::cuda::cudnn_version();
  std::snprintf(text, size, "%s",
                version.ok() ? version->c_str() : version.status().message().c_str());
  return static_cast<int>(version.status().code());
}

}  // extern "C"
