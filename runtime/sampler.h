// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

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

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}
  // `history`: every token of the sequence so far, for the repetition penalty.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history);

 private:
  SamplingOptions options_;
  Random random_;
};

}  // namespace abq::runtime
