#include "compute/cuda/pinned_staging.h"

#include <algorithm>
#include <cstring>

namespace abq::compute::cuda {

cudaError_t PinnedStaging::create() {
  for (Buffer& buffer : buffers_) {
    cudaError_t error = cudaMallocHost(&buffer.memory, static_cast<size_t>(kBufferBytes));
    if (error != cudaSuccess) return error;
    error = cudaEventCreateWithFlags(&buffer.travelled, cudaEventDisableTiming);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

// Errors of the process's end (the driver may be gone before us) concern nobody.
PinnedStaging::~PinnedStaging() {
  for (const Buffer& buffer : buffers_) {
    if (buffer.travelled != nullptr) static_cast<void>(cudaEventDestroy(buffer.travelled));
    if (buffer.memory != nullptr) static_cast<void>(cudaFreeHost(buffer.memory));
  }
}

cudaError_t PinnedStaging::upload(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
  for (int64_t done = 0; done < bytes; done += kBufferBytes) {
    const auto part = static_cast<size_t>(std::min(kBufferBytes, bytes - done));
    const Buffer& buffer = buffers_[next_];
    next_ = (next_ + 1) % buffers_.size();
    // An event that was never recorded counts as past.
    cudaError_t error = cudaEventSynchronize(buffer.travelled);
    if (error != cudaSuccess) return error;
    std::memcpy(buffer.memory, static_cast<const char*>(from) + done, part);
    error = cudaMemcpyAsync(static_cast<char*>(to) + done, buffer.memory, part,
                            cudaMemcpyHostToDevice, stream);
    if (error != cudaSuccess) return error;
    error = cudaEventRecord(buffer.travelled, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace abq::compute::cuda
