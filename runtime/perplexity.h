// Perplexity of a token stream under named conventions.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/engine.h"

namespace abq::runtime {

// "gptq-<context>": the stream is cut into non-overlapping windows of `context` tokens from its
// start, a rest shorter than a window is left out; positions run from 0 in each window; every token
// but the first of a window is scored; perplexity = exp(mean NLL over all scored tokens).
struct Convention {
  int64_t context = 0;
  std::string name() const;
};
// InvalidArgument names the conventions there are.
Result<Convention> parse_convention(std::string_view text);

struct Perplexity {
  double mean_nll = 0;
  double perplexity = 0;
  int64_t windows = 0;
  int64_t scored_tokens = 0;
};

// Sees the logits [m, V] of positions first.. of window `window`, before they are dropped.
using WindowObserver = std::function<void(int64_t window, int64_t first, MatrixView<const float>)>;
using WindowProgress = std::function<void(int64_t done, int64_t total, double perplexity_so_far)>;

struct PerplexityOptions {
  Convention convention = {};
  int64_t max_windows = 0;  // 0 = all
  WindowObserver observer = {};
  WindowProgress progress = {};
};

// InvalidArgument when the stream is shorter than one window or the window than the model's context
// allows.
Result<Perplexity> measure_perplexity(const Engine& engine, std::span<const int32_t> tokens,
                                      const PerplexityOptions& options);

// -log softmax(logits)[target], in float64 from float32 logits.
double negative_log_likelihood(std::span<const float> logits, int32_t target);

}  // namespace abq::runtime
