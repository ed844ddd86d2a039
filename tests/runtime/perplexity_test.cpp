#include "runtime/perplexity.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/common/tiny_artifact.h"

namespace abq::runtime {

TEST_CASE("the likelihood of a token is that of the softmax") {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  CHECK(negative_log_likelihood(logits, 1) == doctest::Approx(-std::log(0.3)).epsilon(1e-6));
  const std::vector<float> large = {1000.0f, 999.0f};
  CHECK(negative_log_likelihood(large, 0) == doctest::Approx(std::log1p(std::exp(-1.0))));
}

TEST_CASE("windows do not overlap, restart at position 0 and drop the rest") {
  const auto engine = test::tiny_engine("w16a16");
  const std::vector<int32_t> tokens = test::sample_tokens(35);
  const auto both = measure_perplexity(*engine, tokens, {.convention = {16}});
  REQUIRE_MESSAGE(both.ok(), both.status().to_string());
  CHECK(both->windows == 2);
  CHECK(both->scored_tokens == 30);
  const std::span<const int32_t> all(tokens);
  const auto first = measure_perplexity(*engine, all.first(16), {.convention = {16}});
  const auto second = measure_perplexity(*engine, all.subspan(16, 16), {.convention = {16}});
  REQUIRE(first.ok());
  REQUIRE(second.ok());
  CHECK(both->mean_nll == doctest::Approx((first->mean_nll + second->mean_nll) / 2).epsilon(1e-9));
  CHECK(both->perplexity == doctest::Approx(std::exp(both->mean_nll)));
}

TEST_CASE("a limit on windows scores the first ones") {
  const auto engine = test::tiny_engine("w16a16");
  const std::vector<int32_t> tokens = test::sample_tokens(64);
  const auto limited = measure_perplexity(*engine, tokens, {.convention = {16}, .max_windows = 2});
  REQUIRE(limited.ok());
  CHECK(limited->windows == 2);
}

TEST_CASE("the observer sees the logits of every position of every window") {
  const auto engine = test::tiny_engine("w16a16");
  const std::vector<int32_t> tokens = test::sample_tokens(32);
  int64_t rows = 0;
  PerplexityOptions options;
  options.convention = {16};
  options.observer = [&](int64_t, int64_t, MatrixView<const float> logits) { rows += logits.rows; };
  REQUIRE(measure_perplexity(*engine, tokens, options).ok());
  CHECK(rows == 32);
}

TEST_CASE("a text shorter than one window is refused with both lengths") {
  const auto engine = test::tiny_engine("w16a16");
  const std::vector<int32_t> tokens = test::sample_tokens(10);
  const auto result = measure_perplexity(*engine, tokens, {.convention = {16}});
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message().find("10 tokens") != std::string::npos);
  CHECK(result.status().message().find("window of 16") != std::string::npos);
}

TEST_CASE("conventions are parsed and named") {
  const auto convention = parse_convention("gptq-1024");
  REQUIRE(convention.ok());
  CHECK(convention->context == 1024);
  CHECK(convention->name() == "gptq-1024");
  for (const char* bad : {"", "gptq", "gptq-", "gptq-1", "gptq-x", "gptq-10x", "llama-2048"}) {
    CAPTURE(std::string(bad));
    CHECK_FALSE(parse_convention(bad).ok());
  }
}

}  // namespace abq::runtime
