#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace abq::runtime {
namespace {

int32_t argmax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void penalize_repetition(std::vector<float>& logits, std::span<const int32_t> history,
                         float penalty) {
  std::vector<bool> seen(logits.size(), false);
  for (const int32_t id : history) {
    const size_t index = static_cast<size_t>(id);
    if (index >= logits.size() || seen[index]) continue;
    seen[index] = true;
    float& logit = logits[index];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

}  // namespace

Status check_sampling_options(const SamplingOptions& options) {
  if (!(options.temperature >= 0.0f) || !std::isfinite(options.temperature)) {
    return invalid_argument("temperature {}: expected 0 (greedy) or a positive number",
                            options.temperature);
  }
  if (options.top_k < 0) {
    return invalid_argument("top-k {}: expected 0 (all) or a positive count", options.top_k);
  }
  if (!(options.top_p > 0.0f && options.top_p <= 1.0f)) {
    return invalid_argument("top-p {}: expected a probability in (0, 1]", options.top_p);
  }
  if (!(options.repetition_penalty > 0.0f) || !std::isfinite(options.repetition_penalty)) {
    return invalid_argument("repetition penalty {}: expected a positive number, 1 = none",
                            options.repetition_penalty);
  }
  return {};
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history) {
  std::vector<float> scores(logits.begin(), logits.end());
  if (options_.repetition_penalty != 1.0f) {
    penalize_repetition(scores, history, options_.repetition_penalty);
  }
  if (options_.temperature == 0.0f) return argmax(scores);

  // Candidates in descending order of score, ids ascending among equals.
  std::vector<int32_t> ids(scores.size());
  std::iota(ids.begin(), ids.end(), 0);
  const size_t keep =
      options_.top_k > 0 ? std::min(ids.size(), static_cast<size_t>(options_.top_k)) : ids.size();
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(keep), ids.end(),
                    [&](int32_t a, int32_t b) {
                      const float x = scores[static_cast<size_t>(a)];
                      const float y = scores[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  ids.resize(keep);

  std::vector<double> weights(keep);
  const double top = scores[static_cast<size_t>(ids[0])];
  // A penalty near 0 can carry a logit out of float32: then it has all of the probability.
  if (!std::isfinite(top)) return ids[0];
  double total = 0;
  for (size_t i = 0; i < keep; ++i) {
    weights[i] = std::exp((scores[static_cast<size_t>(ids[i])] - top) / options_.temperature);
    total += weights[i];
  }
  // The smallest set whose probability reaches top_p, within what top_k left.
  const double limit = total * options_.top_p;
  double kept = 0;
  size_t count = 0;
  while (count < keep && kept < limit)
    kept += weights[count++];

  double draw = random_.uniform() * kept;
  for (size_t i = 0; i + 1 < count; ++i) {
    draw -= weights[i];
    if (draw < 0) return ids[i];
  }
  return ids[count - 1];
}

}  // namespace abq::runtime
