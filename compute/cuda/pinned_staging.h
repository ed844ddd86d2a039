// The way of host memory to the device: through two page-locked buffers, one filled by the host
// while the other one travels.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>

namespace abq::compute::cuda {

class PinnedStaging {
 public:
  PinnedStaging() = default;
  PinnedStaging(const PinnedStaging&) = delete;
  PinnedStaging& operator=(const PinnedStaging&) = delete;
  ~PinnedStaging();

  cudaError_t create();
  // Copies `bytes` to the device in the order of the stream; `from` is free on return.
  cudaError_t upload(void* to, const void* from, int64_t bytes, cudaStream_t stream);

 private:
  static constexpr int64_t kBufferBytes = int64_t{8} << 20;
  struct Buffer {
    void* memory = nullptr;
    cudaEvent_t travelled = nullptr;
  };

  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
};

}  // namespace abq::compute::cuda
