// Descriptors of cuDNN's graph interface, owned together. The first failure stays: what follows it
// does nothing, so that a graph is written as one list of calls with one check behind it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/cuda/cudnn/cudnn_library.h"

namespace abq::runtime::cuda {

class CudnnDescriptors {
 public:
  explicit CudnnDescriptors(const CudnnFunctions& functions) : functions_(&functions) {}
  CudnnDescriptors(CudnnDescriptors&& other) noexcept
      : functions_(other.functions_),
        owned_(std::move(other.owned_)),
        status_(std::move(other.status_)) {
    other.owned_.clear();
  }
  CudnnDescriptors& operator=(CudnnDescriptors&& other) noexcept;
  ~CudnnDescriptors() { clear(); }

  const CudnnFunctions& functions() const { return *functions_; }
  const Status& status() const { return status_; }

  // Null once something has failed.
  cudnnBackendDescriptor_t create(cudnnBackendDescriptorType_t type);
  void finalize(cudnnBackendDescriptor_t descriptor, std::string_view what);
  // Owns what `other` did.
  void take(CudnnDescriptors other);

  void set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
           cudnnBackendAttributeType_t type, std::span<const std::byte> bytes, int64_t count);
  template <class T>
  void set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
           cudnnBackendAttributeType_t type, std::span<const T> values) {
    set(descriptor, name, type, std::as_bytes(values), static_cast<int64_t>(values.size()));
  }
  template <class T>
  void set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
           cudnnBackendAttributeType_t type, const T& value) {
    set(descriptor, name, type, std::span<const T>(&value, 1));
  }
  void link(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
            cudnnBackendDescriptor_t other) {
    set(descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, other);
  }

 private:
  void check(cudnnStatus_t status, std::string_view what);
  void clear();

  const CudnnFunctions* functions_;
  std::vector<cudnnBackendDescriptor_t> owned_;  // in the order of their making
  Status status_;
};

}  // namespace abq::runtime::cuda
