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

// Ids in descending order of their scores, ids ascending among equals, sorted as far as asked for:
// few of a large vocabulary are.
class RankedIds {
 public:
  explicit RankedIds(std::span<const float> scores) : scores_(scores), ids_(scores.size()) {
    std::iota(ids_.begin(), ids_.end(), 0);
  }
  int32_t at(size_t rank) {
    if (rank >= sorted_) sort_beyond(rank);
    return ids_[rank];
  }

 private:
  static constexpr size_t kFirst = 128;

  void sort_beyond(size_t rank) {
    const size_t end = std::min(ids_.size(), std::max(kFirst, 8 * (rank + 1)));
    const auto before = [&](int32_t a, int32_t b) {
      const float x = scores_[static_cast<size_t>(a)];
      const float y = scores_[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    };
    const auto at = [&](size_t i) { return ids_.begin() + static_cast<std::ptrdiff_t>(i); };
    if (end < ids_.size()) std::nth_element(at(sorted_), at(end), ids_.end(), before);
    std::sort(at(sorted_), at(end), before);
    sorted_ = end;
  }

  std::span<const float> scores_;
  std::vector<int32_t> ids_;
  size_t sorted_ = 0;
};

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

int32_t draw_token(std::span<const float> logits, const TokenDraw& draw) {
  if (draw.temperature == 0.0f) return argmax(logits);
  const size_t candidates =
      draw.top_k > 0 ? std::min(logits.size(), static_cast<size_t>(draw.top_k)) : logits.size();
  RankedIds ranked(logits);
  const double top = logits[static_cast<size_t>(ranked.at(0))];
  // A penalty near 0 can carry a logit out of float32: then it has all of the probability.
  if (!std::isfinite(top)) return ranked.at(0);
  const auto weight = [&](int32_t id) {
    return std::exp((logits[static_cast<size_t>(id)] - top) / draw.temperature);
  };
  double total = 0;
  if (candidates == logits.size()) {
    for (size_t id = 0; id < logits.size(); ++id)
      total += weight(static_cast<int32_t>(id));
  } else {
    for (size_t rank = 0; rank < candidates; ++rank)
      total += weight(ranked.at(rank));
  }

  // The smallest set whose probability reaches top_p, within what top_k left.
  double kept = total;
  if (draw.top_p < 1.0f) {
    const double limit = total * static_cast<double>(draw.top_p);
    kept = 0;
    for (size_t rank = 0; rank < candidates && kept < limit; ++rank)
      kept += weight(ranked.at(rank));
  }
  double left = draw.uniform * kept;
  for (size_t rank = 0; rank + 1 < candidates; ++rank) {
    left -= weight(ranked.at(rank));
    if (left < 0) return ranked.at(rank);
  }
  return ranked.at(candidates - 1);
}

TokenDraw Sampler::next_draw() {
  return {.uniform = options_.temperature > 0.0f ? random_.uniform() : 0.0,
          .temperature = options_.temperature,
          .top_p = options_.top_p,
          .top_k = options_.top_k};
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history) {
  if (!needs_logits()) return draw_token(logits, next_draw());
  std::vector<float> scores(logits.begin(), logits.end());
  penalize_repetition(scores, history, options_.repetition_penalty);
  return draw_token(scores, next_draw());
}

}  // namespace abq::runtime
