#include "runtime/generate.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "runtime/session_checks.h"

namespace abq::runtime {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Result<GenerationStats> generate(Session& session, std::span<const int32_t> prompt,
                                 const GenerationOptions& options,
                                 const std::function<bool(int32_t)>& on_token) {
  ABQ_RETURN_IF_ERROR(check_sampling_options(options.sampling));
  const int64_t prompt_tokens = static_cast<int64_t>(prompt.size());
  if (options.max_new_tokens > session.capacity() - session.position() - prompt_tokens) {
    return invalid_argument(
        "context overflow: {} prompt tokens and {} new ones do not fit a context of {}; shorten "
        "the "
        "prompt or ask for at most {} new tokens",
        session.position() + prompt_tokens, options.max_new_tokens, session.capacity(),
        std::max<int64_t>(session.capacity() - session.position() - prompt_tokens, 0));
  }
  GenerationStats stats;
  stats.prompt_tokens = prompt_tokens;
  const Clock::time_point prefill_start = Clock::now();
  ABQ_ASSIGN_OR_RETURN(std::vector<float> logits, session.run(prompt));
  stats.prefill_seconds = seconds_since(prefill_start);

  Sampler sampler(options.sampling);
  std::vector<int32_t> history(prompt.begin(), prompt.end());
  const Clock::time_point decode_start = Clock::now();
  ABQ_RETURN_IF_ERROR(check_logits(logits));
  int32_t id = sampler.sample(logits, history);
  while (stats.new_tokens < options.max_new_tokens) {
    if (std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end()) {
      stats.reason = StopReason::kStopToken;
      break;
    }
    history.push_back(id);
    ++stats.new_tokens;
    if (!on_token(id)) {
      stats.reason = StopReason::kCallback;
      break;
    }
    if (stats.new_tokens == options.max_new_tokens) break;
    if (sampler.needs_logits()) {
      ABQ_ASSIGN_OR_RETURN(logits, session.run({&id, 1}));
      ABQ_RETURN_IF_ERROR(check_logits(logits));
      id = sampler.sample(logits, history);
    } else {
      ABQ_ASSIGN_OR_RETURN(id, session.run_next({&id, 1}, sampler.next_draw()));
    }
  }
  stats.decode_seconds = seconds_since(decode_start);
  return stats;
}

}  // namespace abq::runtime
