// The engine and session of the CPU device.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/engine.h"
#include "runtime/step.h"

namespace abq::runtime {

class CpuEngine : public Engine, public std::enable_shared_from_this<CpuEngine> {
 public:
  static Result<std::shared_ptr<const Engine>> create(std::shared_ptr<const LoadedPlan> plan,
                                                      const EngineOptions& options);

  Result<std::unique_ptr<Session>> new_session(const SessionOptions& options) const override;
  Status decode(std::span<Session* const> sessions, std::span<const int32_t> tokens,
                MatrixView<float> logits) const override;
  const LoadedPlan& plan() const override { return *plan_; }
  std::string_view device_name() const override { return device_name_; }
  int64_t weight_bytes() const override;
  std::string kernel_name(int step, int64_t m) const override;

  int num_steps() const { return plan_->plan().steps_size(); }
  // The last step that reads other tokens than its own; every step after it is row by row.
  int last_attention_step() const { return last_attention_step_; }
  // FLOAT buffers written up to last_attention_step() and read after it.
  const std::vector<uint32_t>& carried_buffers() const { return carried_buffers_; }
  Status run_step(int step, StepContext& context) const;

 private:
  CpuEngine(std::shared_ptr<const LoadedPlan> plan, bool stream_weights);
  Status resolve_kernels();
  Status prepare_steps();
  void find_carried_buffers();
  void drop_weight_pages(const proto::Step& step) const;

  std::shared_ptr<const LoadedPlan> plan_;
  std::string device_name_;
  bool stream_weights_;
  // Of each step of the plan; null for one that the step ahead of it does too.
  std::vector<StepFactory> factories_;
  std::vector<std::unique_ptr<PreparedStep>> steps_;  // as factories_; none while streaming
  int last_attention_step_ = -1;
  std::vector<uint32_t> carried_buffers_;
};

}  // namespace abq::runtime
