#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "support/parallel.h"
#include "tests/common/tiny_artifact.h"

namespace abq::runtime {
namespace {

std::unique_ptr<Session> new_session(const Engine& engine, SessionOptions options = {}) {
  Result<std::unique_ptr<Session>> session = engine.new_session(options);
  REQUIRE_MESSAGE(session.ok(), session.status().to_string());
  return std::move(session).value();
}

std::vector<float> run(Session& session, std::span<const int32_t> tokens) {
  Result<std::vector<float>> logits = session.run(tokens);
  REQUIRE_MESSAGE(logits.ok(), logits.status().to_string());
  return std::move(logits).value();
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

float largest(const std::vector<float>& values) {
  float result = 0;
  for (const float value : values)
    result = std::max(result, std::abs(value));
  return result;
}

}  // namespace

TEST_CASE("float logits do not depend on how the prompt is cut into chunks") {
  const auto engine = test::tiny_engine("w16a16");
  const std::vector<int32_t> tokens = test::sample_tokens(70);
  const std::vector<float> whole = run(*new_session(*engine), tokens);
  for (const int64_t chunk : {1, 3, 7, 64}) {
    CAPTURE(chunk);
    const auto session = new_session(*engine, {.prefill_chunk = chunk});
    // Sums of at most 384 float32 products in another order, through two blocks.
    CHECK(largest_difference(run(*session, tokens), whole) < 1e-4f * largest(whole));
  }
}

TEST_CASE("decoding token by token gives the logits of the prefill") {
  for (const char* scheme : {"w16a16", "w4a16", "w4a16-kv4-q4", "w2ba16"}) {
    CAPTURE(std::string(scheme));
    const auto engine = test::tiny_engine(scheme);
    const std::vector<int32_t> tokens = test::sample_tokens(33);
    const auto session = new_session(*engine);
    std::vector<std::vector<float>> rows;
    REQUIRE(session
                ->run_all(tokens,
                          [&](int64_t, MatrixView<const float> logits) {
                            for (int64_t r = 0; r < logits.rows; ++r) {
                              rows.emplace_back(logits.row(r), logits.row(r) + logits.cols);
                            }
                          })
                .ok());
    REQUIRE(rows.size() == tokens.size());
    session->reset();
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::vector<float> logits = run(*session, {&tokens[i], 1});
      // A code of the quantized cache may move by one step where rounding is at a tie.
      const bool quantized_cache = std::strstr(scheme, "kv4") != nullptr;
      CHECK(largest_difference(logits, rows[i]) <
            (quantized_cache ? 2e-2f : 2e-4f) * largest(rows[i]));
    }
  }
}

TEST_CASE("the same bits come out for any number of threads") {
  for (const char* scheme : {"w16a16", "w4a4-kv4-q4", "w2ba8", "w3a16"}) {
    CAPTURE(std::string(scheme));
    const auto engine = test::tiny_engine(scheme);
    const std::vector<int32_t> tokens = test::sample_tokens(40);
    set_num_threads(1);
    const std::vector<float> one = run(*new_session(*engine), tokens);
    for (const int threads : {2, 3}) {
      set_num_threads(threads);
      CHECK(run(*new_session(*engine), tokens) == one);
    }
    set_num_threads(0);
  }
}

TEST_CASE("sessions of one engine do not disturb each other") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  const std::vector<int32_t> tokens = test::sample_tokens(24);
  const std::span<const int32_t> first(tokens.data(), 12);
  const std::span<const int32_t> second(tokens.data() + 12, 12);
  const std::vector<float> alone_a = run(*new_session(*engine), first);
  const std::vector<float> alone_b = run(*new_session(*engine), second);
  const auto a = new_session(*engine);
  const auto b = new_session(*engine);
  std::vector<float> last_a;
  std::vector<float> last_b;
  for (size_t i = 0; i < first.size(); i += 4) {
    last_a = run(*a, first.subspan(i, 4));
    last_b = run(*b, second.subspan(i, 4));
  }
  CHECK(largest_difference(last_a, alone_a) < 2e-2f * largest(alone_a));
  CHECK(largest_difference(last_b, alone_b) < 2e-2f * largest(alone_b));
}

TEST_CASE("a reset session starts over") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  const std::vector<int32_t> tokens = test::sample_tokens(20);
  const auto session = new_session(*engine);
  const std::vector<float> before = run(*session, tokens);
  CHECK(session->position() == 20);
  session->reset();
  CHECK(session->position() == 0);
  CHECK(run(*session, tokens) == before);
}

TEST_CASE("streamed weights give the bits of resident ones") {
  const std::vector<int32_t> tokens = test::sample_tokens(20);
  for (const char* scheme : {"w2ba8", "w16a16"}) {
    const std::vector<float> resident = run(*new_session(*test::tiny_engine(scheme)), tokens);
    const auto streaming = test::tiny_engine(scheme, true);
    CHECK(streaming->weight_bytes() == 0);
    CHECK(run(*new_session(*streaming), tokens) == resident);
  }
}

TEST_CASE("more tokens than the session has room for are refused with the numbers") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  const auto session = new_session(*engine, {.max_tokens = 10});
  const std::vector<int32_t> tokens = test::sample_tokens(11);
  const Result<std::vector<float>> result = session->run(tokens);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().code() == StatusCode::kInvalidArgument);
  CHECK(result.status().message().find("room is for 10") != std::string::npos);
  CHECK(session->position() == 0);
}

TEST_CASE("a session longer than the model's context is refused") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  const auto result = engine->new_session({.max_tokens = 100000});
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message().find("at most 512") != std::string::npos);
}

TEST_CASE("ids outside the vocabulary and empty inputs are refused") {
  const auto engine = test::tiny_engine("w4a8-kv8");
  const auto session = new_session(*engine);
  const std::vector<int32_t> outside = {1, 1024};
  CHECK(session->run(outside).status().message().find("0..1023") != std::string::npos);
  const std::vector<int32_t> negative = {-1};
  CHECK_FALSE(session->run(negative).ok());
  CHECK_FALSE(session->run({}).ok());
}

TEST_CASE("a quantized cache takes the memory its width promises") {
  const auto bytes = [](const char* scheme) {
    return new_session(*test::tiny_engine(scheme), {.max_tokens = 256})->memory_bytes();
  };
  const int64_t wide = bytes("w4a8");
  const int64_t eight = bytes("w4a8-kv8");
  const int64_t four = bytes("w4a8-kv4");
  // 2 layers x keys and values x 256 tokens x 2 heads of 32: codes, and 8 bytes of parameters a
  // head.
  constexpr int64_t kRows = 2 * 2 * 256 * 2;
  CHECK(wide == kRows * 32 * 4);
  CHECK(eight == kRows * (32 + 8));
  CHECK(four == kRows * (16 + 8));
}

}  // namespace abq::runtime
