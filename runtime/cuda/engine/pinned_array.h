// Page-locked host memory with an owner: copies to and from the device run beside the host.
#pragma once

#include <cuda_runtime_api.h>

#include <utility>

#include "runtime/cuda/cuda_status.h"

namespace abq::runtime::cuda {

template <class T>
class PinnedArray {
 public:
  PinnedArray() = default;
  PinnedArray(PinnedArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  PinnedArray& operator=(PinnedArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~PinnedArray() { (void)cudaFreeHost(data_); }

  static Result<PinnedArray> create(int64_t size) {
    PinnedArray array;
    const size_t bytes = static_cast<size_t>(size) * sizeof(T);
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMallocHost(reinterpret_cast<void**>(&array.data_), bytes > 0 ? bytes : 1),
        "{} bytes of page-locked memory", bytes);
    array.size_ = size;
    return array;
  }

  T* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace abq::runtime::cuda
