// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/token_draw.h"
#include "support/random.h"
#include "support/status.h"

namespace abq::runtime {

struct SamplingOptions {
  float temperature = 0.0f;  // 0 = greedy (highest logit, lowest id on ties)
  int top_k = 0;             // 0 = all
  float top_p = 1.0f;        // keep the smallest set with at least this probability
  float repetition_penalty =
      1.0f;  // CTRL (arXiv 1909.05858): divides positive, multiplies negative logits
  uint64_t seed = 0;
};

// InvalidArgument for values out of range, naming the option and its range.
Status check_sampling_options(const SamplingOptions& options);

// The token at draw.uniform of the distribution that `logits` describe: with the ids in descending
// order of their logits (ids ascending among equals), the first whose cumulated probability exceeds
// it. One logit at least.
int32_t draw_token(std::span<const float> logits, const TokenDraw& draw);

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}
  // Whether sample() needs the logits themselves; otherwise it is draw_token(logits, next_draw()).
  bool needs_logits() const { return options_.repetition_penalty != 1.0f; }
  // The next place in the seed's sequence.
  TokenDraw next_draw();
  // `history`: every token of the sequence so far, for the repetition penalty.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history);

 private:
  SamplingOptions options_;
  Random random_;
};

}  // namespace abq::runtime
