// Token-by-token generation on a session.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "runtime/engine.h"
#include "runtime/sampler.h"

namespace abq::runtime {

enum class StopReason { kLength, kStopToken, kCallback };

struct GenerationStats {
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
  StopReason reason = StopReason::kLength;
};

struct GenerationOptions {
  int64_t max_new_tokens = 0;
  std::span<const int32_t> stop_ids = {};
  SamplingOptions sampling = {};
};

// Calls `on_token` with each new token (a stop token is not passed on); false ends the generation.
// InvalidArgument before anything runs when prompt and new tokens do not fit the session; Internal
// when a logit is NaN or Inf.
Result<GenerationStats> generate(Session& session, std::span<const int32_t> prompt,
                                 const GenerationOptions& options,
                                 const std::function<bool(int32_t)>& on_token);

}  // namespace abq::runtime
