#include "runtime/engine.h"

#include <algorithm>
#include <set>

#include "runtime/cpu_engine.h"
#include "runtime/cuda_engine.h"
#include "runtime/sampler.h"
#include "runtime/session_checks.h"
#include "support/log.h"

namespace abq::runtime {

Result<DeviceKind> parse_device_kind(std::string_view text) {
  if (text == "auto") return DeviceKind::kAuto;
  if (text == "cpu") return DeviceKind::kCpu;
  if (text == "cuda") return DeviceKind::kCuda;
  return invalid_argument("device '{}': expected auto, cpu or cuda", text);
}

Result<PrefillAttention> parse_prefill_attention(std::string_view text) {
  if (text == "auto") return PrefillAttention::kAuto;
  if (text == "own") return PrefillAttention::kOwn;
  if (text == "cudnn") return PrefillAttention::kCudnn;
  return invalid_argument("attention '{}': expected auto, own or cudnn", text);
}

Result<std::shared_ptr<const Engine>> Engine::create(std::shared_ptr<const LoadedPlan> plan,
                                                     const EngineOptions& options) {
  if (options.device == DeviceKind::kCuda) return CudaEngine::create(std::move(plan), options);
  if (options.device == DeviceKind::kAuto && !options.stream_weights) {
    Result<std::shared_ptr<const Engine>> cuda = CudaEngine::create(plan, options);
    // A machine without a GPU is no news; a GPU that cannot take the model is.
    if (cuda.ok()) return cuda;
    if (cuda.status().code() == StatusCode::kUnsupported) {
      spdlog::debug("device auto: {}; using the CPU", cuda.status().message());
    } else {
      spdlog::warn("device auto: {}; using the CPU", cuda.status().message());
    }
  }
  return CpuEngine::create(std::move(plan), options);
}

Status Engine::check_batch(std::span<Session* const> sessions, std::span<const int32_t> tokens,
                           MatrixView<float> logits) const {
  const int64_t vocabulary = plan().plan().model().vocab_size();
  if (sessions.empty() || sessions.size() != tokens.size() ||
      logits.rows != static_cast<int64_t>(sessions.size()) || logits.cols != vocabulary) {
    return invalid_argument(
        "batch of {} sessions with {} tokens and logits [{}, {}]; expected one token and {} "
        "logits for each session",
        sessions.size(), tokens.size(), logits.rows, logits.cols, vocabulary);
  }
  std::set<const Session*> seen;
  for (const Session* session : sessions) {
    if (!seen.insert(session).second)
      return invalid_argument("a session stands twice in the batch; give each one token");
  }
  return {};
}

Result<int32_t> Session::run_next(std::span<const int32_t> tokens, const TokenDraw& draw) {
  ABQ_ASSIGN_OR_RETURN(const std::vector<float> logits, run(tokens));
  ABQ_RETURN_IF_ERROR(check_logits(logits));
  return draw_token(logits, draw);
}

}  // namespace abq::runtime
