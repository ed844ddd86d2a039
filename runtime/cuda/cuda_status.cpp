#include "runtime/cuda/cuda_status.h"

namespace abq::runtime::cuda {

Status cuda_failure(cudaError_t error, std::string_view what, const char* file, int line) {
  (void)cudaGetLastError();
  return device_error("cuda: {}: {} ({}) at {}:{}", what, cudaGetErrorName(error),
                      cudaGetErrorString(error), file, line);
}

}  // namespace abq::runtime::cuda
