#include "runtime/cuda_engine.h"

#include <algorithm>
#include <array>

#include "compute/cuda_library.h"
#include "runtime/plan_program.h"
#include "runtime/session_checks.h"
#include "support/log.h"

namespace abq::runtime {
namespace {

class CudaSession : public Session {
 public:
  CudaSession(std::shared_ptr<const CudaEngine> engine, std::unique_ptr<DeviceSession> device,
              int64_t capacity, int64_t chunk)
      : engine_(std::move(engine)),
        device_(std::move(device)),
        capacity_(capacity),
        chunk_(chunk) {}

  Result<std::vector<float>> run(std::span<const int32_t> tokens) override {
    ABQ_RETURN_IF_ERROR(check(tokens));
    std::vector<float> logits(static_cast<size_t>(vocab_size()));
    while (!tokens.empty()) {
      const std::span<const int32_t> part = tokens.first(next(tokens, chunk_));
      tokens = tokens.subspan(part.size());
      ABQ_RETURN_IF_ERROR(device_->run(part, tokens.empty() ? 1 : 0, logits.data()));
    }
    log_notice();
    return logits;
  }

  Status run_all(std::span<const int32_t> tokens, const LogitsConsumer& consume) override {
    ABQ_RETURN_IF_ERROR(check(tokens));
    const int64_t chunk = logits_chunk(vocab_size(), chunk_);
    std::vector<float> logits;
    while (!tokens.empty()) {
      const std::span<const int32_t> part = tokens.first(next(tokens, chunk));
      tokens = tokens.subspan(part.size());
      const int64_t first = device_->position();
      const int64_t rows = static_cast<int64_t>(part.size());
      logits.resize(static_cast<size_t>(rows * vocab_size()));
      ABQ_RETURN_IF_ERROR(device_->run(part, rows, logits.data()));
      consume(first, {logits.data(), rows, vocab_size()});
    }
    log_notice();
    return {};
  }

  Result<int32_t> run_next(std::span<const int32_t> tokens, const TokenDraw& draw) override {
    ABQ_RETURN_IF_ERROR(check(tokens));
    if (tokens.size() > 1) return Session::run_next(tokens, draw);
    int32_t next = 0;
    DecodeResults results{.next = &next};
    if (draw.temperature > 0) results.draws = {&draw, 1};
    DeviceSession* const session = device_.get();
    ABQ_RETURN_IF_ERROR(engine_->device().decode({&session, 1}, tokens, results));
    if (next < 0) {
      return internal_error(
          "a logit is NaN or infinite; the model's activations left the range of float32");
    }
    return next;
  }

  void reset() override { device_->reset(); }
  int64_t position() const override { return device_->position(); }
  int64_t capacity() const override { return capacity_; }
  int64_t memory_bytes() const override { return device_->memory_bytes(); }

  Status check(std::span<const int32_t> tokens) const {
    return check_tokens(tokens, vocab_size(), position(), capacity_);
  }
  const CudaEngine* engine() const { return engine_.get(); }
  DeviceSession* device() { return device_.get(); }

 private:
  int64_t vocab_size() const { return engine_->plan().plan().model().vocab_size(); }
  void log_notice() const {
    const std::string notice = engine_->device().take_notice();
    if (!notice.empty()) spdlog::info("attention of prompts not through cuDNN: {}", notice);
  }
  static size_t next(std::span<const int32_t> tokens, int64_t chunk) {
    return std::min(tokens.size(), static_cast<size_t>(chunk));
  }

  std::shared_ptr<const CudaEngine> engine_;
  std::unique_ptr<DeviceSession> device_;
  int64_t capacity_;
  int64_t chunk_;
};

}  // namespace

Result<std::unique_ptr<DeviceEngine>> create_cuda_device_engine(const Program& program) {
  using Create = int (*)(const char*, const Program*, DeviceEngine**, char*, size_t);
  ABQ_ASSIGN_OR_RETURN(void* function,
                       compute::cuda_library_function("abq_cuda_create_device_engine_for"));
  DeviceEngine* engine = nullptr;
  std::array<char, 4096> text{};
  const int code = reinterpret_cast<Create>(function)(ABQ_RUNTIME_INTERFACE, &program, &engine,
                                                      text.data(), text.size());
  if (code != 0) return Status(static_cast<StatusCode>(code), text.data());
  return std::unique_ptr<DeviceEngine>(engine);
}

Result<std::shared_ptr<const Engine>> CudaEngine::create(std::shared_ptr<const LoadedPlan> plan,
                                                         const EngineOptions& options) {
  if (options.stream_weights) {
    return unsupported("device cuda: weights are kept on the device; streaming them is the CPU's");
  }
  Program program = make_program(plan);
  program.prefill_attention = options.prefill_attention;
  Result<std::unique_ptr<DeviceEngine>> device = create_cuda_device_engine(program);
  if (!device.ok()) return device.status().with_context(plan->path());
  return std::shared_ptr<const Engine>(new CudaEngine(std::move(plan), std::move(device).value()));
}

Result<std::unique_ptr<Session>> CudaEngine::new_session(const SessionOptions& options) const {
  ABQ_ASSIGN_OR_RETURN(const int64_t capacity, session_capacity(plan_->plan(), options));
  // A chunk is never longer than the session.
  const int64_t chunk = std::min(options.prefill_chunk, capacity);
  ABQ_ASSIGN_OR_RETURN(std::unique_ptr<DeviceSession> device,
                       device_->new_session({.capacity = capacity, .prefill_chunk = chunk}));
  return std::unique_ptr<Session>(
      std::make_unique<CudaSession>(shared_from_this(), std::move(device), capacity, chunk));
}

Status CudaEngine::decode(std::span<Session* const> sessions, std::span<const int32_t> tokens,
                          MatrixView<float> logits) const {
  ABQ_RETURN_IF_ERROR(check_batch(sessions, tokens, logits));
  std::vector<DeviceSession*> device_sessions;
  for (size_t i = 0; i < sessions.size(); ++i) {
    auto* const session = dynamic_cast<CudaSession*>(sessions[i]);
    if (session == nullptr || session->engine() != this)
      return invalid_argument("session {} of the batch belongs to another engine", i);
    ABQ_RETURN_IF_ERROR(
        session->check(tokens.subspan(i, 1)).with_context(fmt::format("session {}", i)));
    device_sessions.push_back(session->device());
  }
  return device_->decode(device_sessions, tokens, {.logits = logits.data});
}

}  // namespace abq::runtime
