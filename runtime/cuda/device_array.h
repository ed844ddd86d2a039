// Device memory with an owner.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "runtime/cuda/cuda_status.h"

namespace abq::runtime::cuda {

template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~DeviceArray() { (void)cudaFree(data_); }

  // Device when there is too little memory: says how much was needed and how much is free.
  static Result<DeviceArray> create(int64_t size) {
    DeviceArray array;
    const size_t bytes = static_cast<size_t>(size) * sizeof(T);
    if (const cudaError_t error =
            cudaMalloc(reinterpret_cast<void**>(&array.data_), bytes > 0 ? bytes : 1);
        error != cudaSuccess) {
      size_t free = 0;
      size_t total = 0;
      (void)cudaGetLastError();
      (void)cudaMemGetInfo(&free, &total);
      return device_error("cuda: {} bytes of device memory: {} ({} of {} bytes are free)", bytes,
                          cudaGetErrorString(error), free, total);
    }
    array.size_ = size;
    return array;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }
  int64_t bytes() const { return size_ * static_cast<int64_t>(sizeof(T)); }

  // Both wait until the copy is done.
  Status upload(std::span<const T> values) {
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMemcpy(data_, values.data(), values.size_bytes(), cudaMemcpyHostToDevice),
        "upload of {} bytes", values.size_bytes());
    // Small copies return once they are staged, and other streams do not wait for this one.
    ABQ_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(cudaStreamLegacy), "upload of {} bytes",
                             values.size_bytes());
    return {};
  }
  Result<std::vector<T>> download() const {
    std::vector<T> values(static_cast<size_t>(size_));
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMemcpy(values.data(), data_, values.size() * sizeof(T), cudaMemcpyDeviceToHost),
        "download of {} bytes", values.size() * sizeof(T));
    return values;
  }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace abq::runtime::cuda
