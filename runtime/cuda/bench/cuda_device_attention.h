#pragma once

#include <memory>
#include <string>
#include <utility>

#include "runtime/cuda/cudnn/fused_attention.h"
#include "runtime/device_attention.h"

namespace abq::runtime::cuda {

class CudaDeviceAttention final : public DeviceAttention {
 public:
  static Result<std::unique_ptr<CudaDeviceAttention>> create();

  std::string_view description() const override { return description_; }
  Result<AttentionTiming> time(const AttentionProblem& problem) override;

 private:
  CudaDeviceAttention(std::unique_ptr<FusedAttention> fused, std::string description)
      : fused_(std::move(fused)), description_(std::move(description)) {}

  std::unique_ptr<FusedAttention> fused_;  // null: description_ says why
  std::string description_;
};

}  // namespace abq::runtime::cuda
