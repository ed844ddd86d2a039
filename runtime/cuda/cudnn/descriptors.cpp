#include "runtime/cuda/cudnn/descriptors.h"

namespace abq::runtime::cuda {

CudnnDescriptors& CudnnDescriptors::operator=(CudnnDescriptors&& other) noexcept {
  clear();
  functions_ = other.functions_;
  owned_ = std::move(other.owned_);
  other.owned_.clear();
  status_ = std::move(other.status_);
  return *this;
}

void CudnnDescriptors::clear() {
  for (auto descriptor = owned_.rbegin(); descriptor != owned_.rend(); ++descriptor)
    (void)functions_->destroy_descriptor(*descriptor);
  owned_.clear();
}

void CudnnDescriptors::take(CudnnDescriptors other) {
  owned_.insert(owned_.end(), other.owned_.begin(), other.owned_.end());
  other.owned_.clear();
}

void CudnnDescriptors::check(cudnnStatus_t status, std::string_view what) {
  if (status_.ok() && status != CUDNN_STATUS_SUCCESS)
    status_ = cudnn_failure(*functions_, status, what);
}

cudnnBackendDescriptor_t CudnnDescriptors::create(cudnnBackendDescriptorType_t type) {
  if (!status_.ok()) return nullptr;
  cudnnBackendDescriptor_t descriptor = nullptr;
  check(functions_->create_descriptor(type, &descriptor),
        fmt::format("descriptor of type {}", static_cast<int>(type)));
  if (descriptor != nullptr) owned_.push_back(descriptor);
  return descriptor;
}

void CudnnDescriptors::finalize(cudnnBackendDescriptor_t descriptor, std::string_view what) {
  if (status_.ok()) check(functions_->finalize(descriptor), what);
}

void CudnnDescriptors::set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                           cudnnBackendAttributeType_t type, std::span<const std::byte> bytes,
                           int64_t count) {
  if (!status_.ok()) return;
  check(functions_->set_attribute(descriptor, name, type, count, bytes.data()),
        fmt::format("attribute {}", static_cast<int>(name)));
}

}  // namespace abq::runtime::cuda
