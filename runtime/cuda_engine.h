// The engine of the device cuda: what libabq_cuda.so offers (runtime/device_engine.h) behind the
// interface that every device has. Tokens and positions are checked here.
#pragma once

#include <memory>
#include <string>

#include "runtime/device_engine.h"
#include "runtime/engine.h"

namespace abq::runtime {

class CudaEngine : public Engine, public std::enable_shared_from_this<CudaEngine> {
 public:
  // The errors of create_cuda_device_engine. Unsupported for EngineOptions::stream_weights.
  static Result<std::shared_ptr<const Engine>> create(std::shared_ptr<const LoadedPlan> plan,
                                                      const EngineOptions& options);

  Result<std::unique_ptr<Session>> new_session(const SessionOptions& options) const override;
  Status decode(std::span<Session* const> sessions, std::span<const int32_t> tokens,
                MatrixView<float> logits) const override;
  const LoadedPlan& plan() const override { return *plan_; }
  std::string_view device_name() const override { return device_->name(); }
  int64_t weight_bytes() const override { return device_->weight_bytes(); }
  std::string kernel_name(int step, int64_t m) const override {
    return device_->kernel_name(step, m);
  }

  DeviceEngine& device() const { return *device_; }

 private:
  CudaEngine(std::shared_ptr<const LoadedPlan> plan, std::unique_ptr<DeviceEngine> device)
      : plan_(std::move(plan)), device_(std::move(device)) {}

  std::shared_ptr<const LoadedPlan> plan_;
  std::unique_ptr<DeviceEngine> device_;
};

}  // namespace abq::runtime
