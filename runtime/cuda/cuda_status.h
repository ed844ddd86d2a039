// CUDA's error codes as Status. For host code; .cu files return cudaError_t.
#pragma once

#include <cuda_runtime_api.h>

#include "support/status.h"

namespace abq::runtime::cuda {

// "cuda: <what>: <name> (<words>) at <file>:<line>". Also forgets the error, so that it is not
// reported again by a later call.
Status cuda_failure(cudaError_t error, std::string_view what, const char* file, int line);

}  // namespace abq::runtime::cuda

// Returns from the function unless `call` succeeds; `...` is a format string and its arguments that
// say what was tried (kernel and shape of a launch).
#define ABQ_RETURN_IF_CUDA_ERROR(call, ...)                                                    \
  do {                                                                                         \
    if (const cudaError_t abq_error = (call); abq_error != cudaSuccess)                        \
      return ::abq::runtime::cuda::cuda_failure(abq_error, fmt::format(__VA_ARGS__), __FILE__, \
                                                __LINE__);                                     \
  } while (false)
