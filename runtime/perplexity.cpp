#include "runtime/perplexity.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "support/parallel.h"

namespace abq::runtime {
namespace {

// Scores logits of positions first .. first + m - 1 against the tokens that follow them.
void score_rows(std::span<const int32_t> window, int64_t first, MatrixView<const float> logits,
                std::vector<double>& nll) {
  parallel_for(logits.rows, [&](int64_t r) {
    const size_t next = static_cast<size_t>(first + r + 1);
    if (next >= window.size()) return;
    nll[next] = negative_log_likelihood(logits.row_span(r), window[next]);
  });
}

}  // namespace

std::string Convention::name() const {
  return fmt::format("gptq-{}", context);
}

Result<Convention> parse_convention(std::string_view text) {
  constexpr std::string_view kPrefix = "gptq-";
  Convention convention;
  if (text.starts_with(kPrefix)) {
    const std::string_view number = text.substr(kPrefix.size());
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), convention.context);
    if (error == std::errc() && end == number.data() + number.size() && convention.context >= 2) {
      return convention;
    }
  }
  return invalid_argument(
      "convention '{}': expected gptq-<context> with a context of at least 2, e.g. gptq-1024",
      text);
}

double negative_log_likelihood(std::span<const float> logits, int32_t target) {
  const float top = *std::max_element(logits.begin(), logits.end());
  // Blocks of float sums keep the loop fast; their total in float64 keeps it exact enough.
  constexpr size_t kBlock = 256;
  double total = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const size_t end = std::min(begin + kBlock, logits.size());
    float sum = 0;
    for (size_t i = begin; i < end; ++i)
      sum += std::exp(logits[i] - top);
    total += sum;
  }
  return std::log(total) + top - logits[static_cast<size_t>(target)];
}

Result<Perplexity> measure_perplexity(const Engine& engine, std::span<const int32_t> tokens,
                                      const PerplexityOptions& options) {
  const int64_t context = options.convention.context;
  const int64_t available = static_cast<int64_t>(tokens.size()) / context;
  if (available == 0) {
    return invalid_argument(
        "text has {} tokens: {} needs at least one window of {}; use a longer text or a smaller "
        "context",
        tokens.size(), options.convention.name(), context);
  }
  SessionOptions session_options;
  session_options.max_tokens = context;
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.new_session(session_options));

  Perplexity result;
  const int64_t windows =
      options.max_windows > 0 ? std::min(options.max_windows, available) : available;
  double total = 0;
  for (int64_t w = 0; w < windows; ++w) {
    const std::span<const int32_t> window =
        tokens.subspan(static_cast<size_t>(w * context), static_cast<size_t>(context));
    std::vector<double> nll(window.size(), 0.0);
    session->reset();
    ABQ_RETURN_IF_ERROR(
        session->run_all(window, [&](int64_t first, MatrixView<const float> logits) {
          score_rows(window, first, logits, nll);
          if (options.observer) options.observer(w, first, logits);
        }));
    for (const double value : nll)
      total += value;
    result.windows = w + 1;
    result.scored_tokens += context - 1;
    result.mean_nll = total / static_cast<double>(result.scored_tokens);
    result.perplexity = std::exp(result.mean_nll);
    if (options.progress) options.progress(w + 1, windows, result.perplexity);
  }
  return result;
}

}  // namespace abq::runtime
