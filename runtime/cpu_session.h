// One sequence on the CPU: its KV cache, activation buffers and position.
#pragma once

#include <memory>
#include <vector>

#include "runtime/cpu_engine.h"

namespace abq::runtime {

class CpuSession : public Session {
 public:
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const CpuEngine> engine,
                                                 const SessionOptions& options);

  Result<std::vector<float>> run(std::span<const int32_t> tokens) override;
  Status run_all(std::span<const int32_t> tokens, const LogitsConsumer& consume) override;
  void reset() override { position_ = 0; }
  int64_t position() const override { return position_; }
  int64_t capacity() const override { return capacity_; }
  int64_t memory_bytes() const override;

 private:
  CpuSession(std::shared_ptr<const CpuEngine> engine, int64_t capacity, int64_t chunk);
  int64_t vocab_size() const { return engine_->plan().plan().model().vocab_size(); }
  // Runs steps [begin, end) of the plan.
  Status run_steps(int begin, int end, StepContext& context);
  StepContext context_for(std::span<const int32_t> chunk);
  MatrixView<const float> logits(int64_t m);

  std::shared_ptr<const CpuEngine> engine_;
  int64_t capacity_;
  int64_t chunk_;
  int64_t position_ = 0;
  ActivationBuffers buffers_;
  std::vector<KvCache> caches_;
  AttentionScratch attention_;
};

}  // namespace abq::runtime
