// The kernel that reads and does nothing else.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace abq::runtime::cuda {

// Reads `bytes` (a multiple of 16) at `data`; `never` is written only if a value occurs that the
// caller does not store there.
cudaError_t launch_read(const void* data, int64_t bytes, uint32_t* never, int blocks, int threads,
                        bool overlapped, cudaStream_t stream);

}  // namespace abq::runtime::cuda
