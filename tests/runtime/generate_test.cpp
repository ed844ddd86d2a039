#include "runtime/generate.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/common/tiny_artifact.h"

namespace abq::runtime {
namespace {

std::vector<int32_t> generate_ids(const Engine& engine, std::span<const int32_t> prompt,
                                  const GenerationOptions& options, GenerationStats* stats) {
  const auto session = engine.new_session({});
  REQUIRE(session.ok());
  std::vector<int32_t> ids;
  const Result<GenerationStats> result = generate(**session, prompt, options, [&](int32_t id) {
    ids.push_back(id);
    return true;
  });
  REQUIRE_MESSAGE(result.ok(), result.status().to_string());
  *stats = *result;
  return ids;
}

// A session whose logits are what a model with overflowing activations gives.
class BrokenSession : public Session {
 public:
  int64_t position() const override { return 0; }
  int64_t capacity() const override { return 16; }
  void reset() override {}
  Result<std::vector<float>> run(std::span<const int32_t>) override {
    return std::vector<float>{0.0f, NAN, 1.0f};
  }
  Status run_all(std::span<const int32_t>, const LogitsConsumer&) override { return {}; }
  int64_t memory_bytes() const override { return 0; }
};

}  // namespace

TEST_CASE("logits that are no numbers end generation with the token that has them") {
  BrokenSession session;
  const std::vector<int32_t> prompt = {1};
  const auto result =
      generate(session, prompt, {.max_new_tokens = 2, .sampling = {.temperature = 1.0f}},
               [](int32_t) { return true; });
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message().find("logit of token 1 is nan") != std::string::npos);
}

TEST_CASE("generation ends after the asked number of tokens") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  GenerationStats stats;
  const auto ids = generate_ids(*engine, test::sample_tokens(8), {.max_new_tokens = 5}, &stats);
  CHECK(ids.size() == 5);
  CHECK(stats.prompt_tokens == 8);
  CHECK(stats.new_tokens == 5);
  CHECK(stats.reason == StopReason::kLength);
}

TEST_CASE("a stop token ends generation and is not passed on") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  GenerationStats stats;
  const auto prompt = test::sample_tokens(8);
  const auto all = generate_ids(*engine, prompt, {.max_new_tokens = 6}, &stats);
  const std::vector<int32_t> stop = {all[3]};
  const auto cut = generate_ids(*engine, prompt, {.max_new_tokens = 6, .stop_ids = stop}, &stats);
  CHECK(stats.reason == StopReason::kStopToken);
  CHECK(cut.size() <= 3);
  for (const int32_t id : cut)
    CHECK(id != all[3]);
}

TEST_CASE("the callback can end generation") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  const auto session = engine->new_session({});
  REQUIRE(session.ok());
  const auto prompt = test::sample_tokens(4);
  const auto result =
      generate(**session, prompt, {.max_new_tokens = 10}, [](int32_t) { return false; });
  REQUIRE(result.ok());
  CHECK(result->new_tokens == 1);
  CHECK(result->reason == StopReason::kCallback);
}

TEST_CASE("a prompt and new tokens beyond the context are refused before anything runs") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  const auto session = engine->new_session({});
  REQUIRE(session.ok());
  const auto prompt = test::sample_tokens(500);
  const auto refuse = [](int32_t) { return true; };
  const auto result = generate(**session, prompt, {.max_new_tokens = 13}, refuse);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message().find("at most 12 new tokens") != std::string::npos);
  CHECK((*session)->position() == 0);
  // A count near the integer limit must not wrap around the check.
  const auto huge =
      generate(**session, prompt, {.max_new_tokens = std::numeric_limits<int64_t>::max()}, refuse);
  REQUIRE_FALSE(huge.ok());
  CHECK(huge.status().message().find("context overflow") != std::string::npos);
}

}  // namespace abq::runtime
