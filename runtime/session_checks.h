// What every device's session refuses, in the same words.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/engine.h"

namespace abq::runtime {

// The capacity of a session's KV cache. InvalidArgument for more than the model's context, and for
// chunks of no tokens.
Result<int64_t> session_capacity(const proto::Plan& plan, const SessionOptions& options);
// At least one token, ids inside the vocabulary, room for all after `position`.
Status check_tokens(std::span<const int32_t> tokens, int64_t vocab_size, int64_t position,
                    int64_t capacity);
// Internal when a logit is NaN or infinite, naming the first one.
Status check_logits(std::span<const float> logits);
// Tokens whose logits are computed at once, at most `chunk`: they stay below 64 MiB.
int64_t logits_chunk(int64_t vocab_size, int64_t chunk);

}  // namespace abq::runtime
