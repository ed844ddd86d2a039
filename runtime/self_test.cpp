#include "runtime/self_test.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace abq::runtime {
namespace {

constexpr size_t kTopLogits = 8;

Result<std::vector<float>> last_logits(const Engine& engine, std::span<const int32_t> tokens) {
  SessionOptions options;
  options.max_tokens = static_cast<int64_t>(tokens.size());
  ABQ_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.new_session(options));
  return session->run(tokens);
}

float largest_magnitude(std::span<const float> values) {
  float largest = 0;
  for (const float value : values)
    largest = std::max(largest, std::abs(value));
  return largest;
}

// Whether any value is rounded to codes while the plan runs: tokens, queries, keys or values.
bool quantizes_activations(const proto::Plan& plan) {
  return std::any_of(plan.steps().begin(), plan.steps().end(), [](const proto::Step& step) {
    return step.has_quantize_tokens() ||
           (step.has_attention() &&
            (step.attention().kv_bits() < 16 || step.attention().query_bits() < 16));
  });
}

}  // namespace

Result<proto::SelfTest> make_self_test(const Engine& engine, std::span<const int32_t> tokens) {
  ABQ_ASSIGN_OR_RETURN(const std::vector<float> logits, last_logits(engine, tokens));
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const size_t count = std::min(kTopLogits, ids.size());
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count), ids.end(),
                    [&](int32_t a, int32_t b) {
                      const float x = logits[static_cast<size_t>(a)];
                      const float y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  proto::SelfTest test;
  test.mutable_tokens()->Add(tokens.begin(), tokens.end());
  for (size_t i = 0; i < count; ++i) {
    test.add_top_ids(ids[i]);
    test.add_top_logits(logits[static_cast<size_t>(ids[i])]);
  }
  return test;
}

Status run_self_test(const Engine& engine) {
  const proto::Plan& plan = engine.plan().plan();
  const proto::SelfTest& test = plan.self_test();
  if (test.tokens_size() == 0) return not_found("{}: carries no self-test", engine.plan().path());
  const std::vector<int32_t> tokens(test.tokens().begin(), test.tokens().end());
  ABQ_ASSIGN_OR_RETURN(const std::vector<float> logits, last_logits(engine, tokens));
  // Float sums in another order change a code by one step now and then, and a step is large.
  const float tolerance = (quantizes_activations(plan) ? 0.05f : 1e-3f) * largest_magnitude(logits);
  for (int i = 0; i < test.top_ids_size(); ++i) {
    const float expected = test.top_logits(i);
    const float got = logits[static_cast<size_t>(test.top_ids(i))];
    if (!(std::abs(got - expected) <= tolerance)) {
      return internal_error(
          "{}: self-test: logit of token {} is {}, the artifact recorded {} (tolerance {}); this "
          "machine computes something else than the one that compiled it",
          engine.plan().path(), test.top_ids(i), got, expected, tolerance);
    }
  }
  return {};
}

}  // namespace abq::runtime
