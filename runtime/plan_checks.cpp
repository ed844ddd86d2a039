#include "runtime/plan_checks.h"

#include <cmath>
#include <limits>

namespace abq::runtime {
namespace {

Status check_size(const char* name, int64_t value, int64_t highest) {
  if (value >= 1 && value <= highest) return {};
  return corrupt("model: {} is {}, expected 1 to {}", name, value, highest);
}

Status check_token(const proto::Plan& plan, const char* subject, int32_t id) {
  if (id >= 0 && id < plan.model().vocab_size()) return {};
  return corrupt("{}: token id {} is outside the vocabulary of {}", subject, id,
                 plan.model().vocab_size());
}

}  // namespace

Status check_model(const proto::Plan& plan) {
  const proto::ModelInfo& model = plan.model();
  ABQ_RETURN_IF_ERROR(
      check_size("vocab_size", model.vocab_size(), std::numeric_limits<int32_t>::max()));
  ABQ_RETURN_IF_ERROR(check_size("hidden_size", model.hidden_size(), kMaxDimension));
  ABQ_RETURN_IF_ERROR(check_size("context", model.context(), kMaxContext));
  ABQ_RETURN_IF_ERROR(check_size("weights", model.weights(), std::numeric_limits<int64_t>::max()));
  if (model.layers() < 0) return corrupt("model: layers is {}, expected 0 or more", model.layers());
  return {};
}

// A plan without tokenizer runs on token ids alone.
Status check_tokenizer(const proto::Plan& plan) {
  if (!plan.has_tokenizer()) return {};
  const proto::Tokenizer& tokenizer = plan.tokenizer();
  if (tokenizer.kind() != proto::Tokenizer::HUGGING_FACE_JSON &&
      tokenizer.kind() != proto::Tokenizer::SENTENCE_PIECE) {
    return unsupported("tokenizer: kind {} is unknown to this build; use a later abq",
                       static_cast<int>(tokenizer.kind()));
  }
  if (tokenizer.blob() >= static_cast<uint32_t>(plan.blobs_size())) {
    return corrupt("tokenizer: is blob {}, but there are {} blobs", tokenizer.blob(),
                   plan.blobs_size());
  }
  const int blob = static_cast<int>(tokenizer.blob());
  if (plan.blobs(blob).type() != proto::BYTES) {
    return corrupt("tokenizer: {} is a {}, expected BYTES", blob_label(plan, blob),
                   describe(plan.blobs(blob)));
  }
  return {};
}

Status check_generation(const proto::Plan& plan) {
  const proto::GenerationDefaults& generation = plan.generation();
  for (const int32_t id : generation.stop_ids()) {
    // One beyond the vocabulary never comes up, which some published configurations rely on.
    if (id < 0) return corrupt("generation: stop id {} is negative", id);
  }
  const auto check = [](const char* name, float value, float lowest, float highest) -> Status {
    // Written so that NaN fails.
    if (value >= lowest && value <= highest) return {};
    return corrupt("generation: {} is {}, expected {} to {}", name, value, lowest, highest);
  };
  constexpr float kLargest = std::numeric_limits<float>::max();
  constexpr float kSmallest = std::numeric_limits<float>::min();
  if (generation.has_temperature())
    ABQ_RETURN_IF_ERROR(check("temperature", generation.temperature(), 0, kLargest));
  if (generation.has_top_p()) ABQ_RETURN_IF_ERROR(check("top_p", generation.top_p(), kSmallest, 1));
  if (generation.has_repetition_penalty()) {
    ABQ_RETURN_IF_ERROR(
        check("repetition_penalty", generation.repetition_penalty(), kSmallest, kLargest));
  }
  if (generation.has_top_k() && generation.top_k() < 0)
    return corrupt("generation: top_k is {}, expected 0 or more", generation.top_k());
  return {};
}

Status check_self_test(const proto::Plan& plan) {
  const proto::SelfTest& test = plan.self_test();
  if (test.tokens_size() > plan.model().context()) {
    return corrupt("self-test: {} tokens are more than the context of {}", test.tokens_size(),
                   plan.model().context());
  }
  if (test.top_ids_size() != test.top_logits_size()) {
    return corrupt("self-test: {} token ids, but {} logits", test.top_ids_size(),
                   test.top_logits_size());
  }
  if (test.tokens_size() > 0 && test.top_ids_size() == 0)
    return corrupt("self-test: {} tokens, but no logits to compare", test.tokens_size());
  for (const int32_t id : test.tokens())
    ABQ_RETURN_IF_ERROR(check_token(plan, "self-test", id));
  for (const int32_t id : test.top_ids())
    ABQ_RETURN_IF_ERROR(check_token(plan, "self-test", id));
  for (const float logit : test.top_logits()) {
    if (!std::isfinite(logit)) return corrupt("self-test: logit {} is not finite", logit);
  }
  return {};
}

// Names of kernels may be another build's; numbers must make sense.
Status check_tunings(const proto::Plan& plan) {
  for (const proto::Tuning& tuning : plan.tunings()) {
    for (const proto::Tuning::Choice& choice : tuning.choices()) {
      const bool fits = choice.planes() >= 1 && choice.planes() <= 8 &&
                        choice.activation_bits() >= 1 && choice.activation_bits() <= 16 &&
                        choice.group_size() <= kMaxDimension && choice.n() >= 1 &&
                        choice.n() <= kMaxDimension && choice.k() >= 1 &&
                        choice.k() <= kMaxDimension && choice.max_m() >= 0;
      if (fits && !choice.kernel().empty()) continue;
      return corrupt(
          "tuning for {}: kernel '{}' for {} planes x {} bits, groups of {}, [{}, {}], up to {} "
          "tokens is no choice",
          tuning.device(), choice.kernel(), choice.planes(), choice.activation_bits(),
          choice.group_size(), choice.n(), choice.k(), choice.max_m());
    }
  }
  return {};
}

}  // namespace abq::runtime
