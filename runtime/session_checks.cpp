#include "runtime/session_checks.h"

#include <algorithm>
#include <cmath>

namespace abq::runtime {
namespace {

// A vocabulary of 128k makes 0.5 MB of logits a token.
constexpr int64_t kMaxLogitsBytes = int64_t{64} << 20;

}  // namespace

Result<int64_t> session_capacity(const proto::Plan& plan, const SessionOptions& options) {
  const int64_t context = plan.model().context();
  const int64_t capacity = options.max_tokens > 0 ? options.max_tokens : context;
  if (capacity > context) {
    return invalid_argument(
        "session of {} tokens: the model was made for at most {}; ask for {} or fewer", capacity,
        context, context);
  }
  if (options.prefill_chunk < 1) {
    return invalid_argument("prefill chunk {}: expected at least 1 token", options.prefill_chunk);
  }
  return capacity;
}

Status check_tokens(std::span<const int32_t> tokens, int64_t vocab_size, int64_t position,
                    int64_t capacity) {
  if (tokens.empty()) return invalid_argument("no tokens to run; give at least one");
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab_size) {
      return invalid_argument("token {} of the input is id {}; the vocabulary has ids 0..{}", i,
                              tokens[i], vocab_size - 1);
    }
  }
  if (position + static_cast<int64_t>(tokens.size()) > capacity) {
    return invalid_argument(
        "context overflow: {} tokens are in the session and {} more were given, room is for {}; "
        "shorten the input or ask for a longer session",
        position, tokens.size(), capacity);
  }
  return {};
}

Status check_logits(std::span<const float> logits) {
  const auto bad =
      std::find_if(logits.begin(), logits.end(), [](float v) { return !std::isfinite(v); });
  if (bad == logits.end()) return {};
  return internal_error(
      "logit of token {} is {}; the model's activations left the range of float32",
      bad - logits.begin(), *bad);
}

int64_t logits_chunk(int64_t vocab_size, int64_t chunk) {
  const int64_t row_bytes = vocab_size * static_cast<int64_t>(sizeof(float));
  return std::clamp(kMaxLogitsBytes / row_bytes, int64_t{1}, chunk);
}

}  // namespace abq::runtime
