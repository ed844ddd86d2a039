// The kernel that reads and does nothing else.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace abq::runtime::cuda {

struct ReadGrid {
  int blocks = 0;
  int threads = 0;
  int unroll = 1;  // 16-byte loads of a thread on the way: 1 or 4
};

// Reads `bytes` (a multiple of 16) at `data`; `never` is written only if a value occurs that the
// caller does not store there.
cudaError_t launch_read(const void* data, int64_t bytes, uint32_t* never, const ReadGrid& shape,
                        bool overlapped, cudaStream_t stream);

}  // namespace abq::runtime::cuda
