// Whole models on the CUDA device against the CPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/cuda_library.h"
#include "runtime/device_engine.h"
#include "runtime/generate.h"
#include "runtime/perplexity.h"
#include "runtime/plan_program.h"
#include "runtime/sampler.h"
#include "runtime/self_test.h"
#include "support/mapped_file.h"
#include "tests/common/tiny_artifact.h"

namespace abq::runtime {
namespace {

std::shared_ptr<const Engine> cuda_engine(const std::string& scheme,
                                          PrefillAttention attention = PrefillAttention::kAuto) {
  const auto plan = LoadedPlan::open(test::tiny_artifact(scheme), Verify::kAll);
  REQUIRE_MESSAGE(plan.ok(), plan.status().to_string());
  const auto engine =
      Engine::create(*plan, {.device = DeviceKind::kCuda, .prefill_attention = attention});
  REQUIRE_MESSAGE(engine.ok(), engine.status().to_string());
  return *engine;
}

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

float largest(std::span<const float> values) {
  float result = 0;
  for (const float value : values)
    result = std::max(result, std::abs(value));
  return result;
}

// |a - b| relative to the largest logit.
float distance(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  float result = 0;
  for (size_t i = 0; i < a.size(); ++i)
    result = std::max(result, std::abs(a[i] - b[i]));
  return std::isfinite(result) ? result / largest(b) : 1e30f;
}

// Float plans differ by float16 keys and values; where activations are rounded to codes, a sum in
// another order moves a code by one step now and then.
float tolerance(const std::string& scheme) {
  if (scheme.find("a16") == std::string::npos)
    return scheme.find("a8") != std::string::npos ? 0.05f : 0.25f;
  return scheme.find("kv") == std::string::npos ? 5e-3f : 0.05f;
}

const char* const kSchemes[] = {"w16a16",
                                "w4a16",
                                "w2ba16",
                                "w8a8-kv8-q8",
                                "w4a8-kv8",
                                "w2a8",
                                "w2ba8-kv8-q8",
                                "w1a8",
                                "w1ba8",
                                "w3a8-g64-kv4",
                                "w4a4-kv4-q4",
                                "w2a2-kv2-q2",
                                "w6a6-kv6-q6",
                                "w4a16-g128",
                                "w2ba8-g32",
                                "w5a7-sym",
                                "w4a16-kv4-q4",
                                "w4a8-g128-sym",
                                "w4a4-kv4-q4+rotate",
                                "w8a8+rotate",
                                "w8a8-kv8-q8+rotate",
                                "w4a16-kv4-q4+rotate",
                                "w16a16+rotate"};

}  // namespace

TEST_CASE("prefill on CUDA gives the CPU's logits, for every kind of scheme") {
  const std::vector<int32_t> tokens = test::sample_tokens(100);
  for (const std::string scheme : kSchemes) {
    CAPTURE(scheme);
    const std::vector<float> expected = run(*new_session(*test::tiny_engine(scheme)), tokens);
    const auto engine = cuda_engine(scheme);
    const std::vector<float> got = run(*new_session(*engine), tokens);
    CHECK(distance(got, expected) < tolerance(scheme));
  }
}

TEST_CASE("decoding on CUDA, recorded and not, gives the CPU's logits") {
  const std::vector<int32_t> tokens = test::sample_tokens(12);
  for (const std::string scheme : kSchemes) {
    CAPTURE(scheme);
    const auto cpu = test::tiny_engine(scheme);
    const auto cuda = cuda_engine(scheme);
    const auto expected = new_session(*cpu);
    const auto got = new_session(*cuda);
    for (size_t i = 0; i < tokens.size(); ++i) {
      CAPTURE(i);
      const std::span<const int32_t> one = std::span(tokens).subspan(i, 1);
      CHECK(distance(run(*got, one), run(*expected, one)) < tolerance(scheme));
    }
  }
}

TEST_CASE("a run gives the same bits as the run before") {
  const std::vector<int32_t> tokens = test::sample_tokens(70);
  for (const char* scheme : {"w4a8-kv8", "w2ba16", "w16a16", "w4a4-kv4-q4+rotate"}) {
    CAPTURE(std::string(scheme));
    const auto engine = cuda_engine(scheme);
    const auto a = new_session(*engine);
    const auto b = new_session(*engine);
    CHECK(run(*a, tokens) == run(*b, tokens));
    for (int i = 0; i < 4; ++i)
      CHECK(run(*a, std::span(tokens).first(1)) == run(*b, std::span(tokens).first(1)));
  }
}

TEST_CASE("results do not depend on how the prompt is cut") {
  const std::vector<int32_t> tokens = test::sample_tokens(70);
  for (const std::string scheme : {"w16a16", "w4a16-kv4-q4"}) {
    CAPTURE(scheme);
    const auto engine = cuda_engine(scheme);
    const std::vector<float> whole = run(*new_session(*engine), tokens);
    for (const int64_t chunk : {1, 3, 7, 64}) {
      CAPTURE(chunk);
      const auto session = new_session(*engine, {.prefill_chunk = chunk});
      CHECK(distance(run(*session, tokens), whole) < tolerance(scheme));
    }
  }
}

TEST_CASE("prompts through cuDNN give the CPU's logits, however they are cut") {
  if (const Result<std::string> cudnn = cudnn_version(); !cudnn.ok()) {
    MESSAGE("skipped: ", cudnn.status().to_string());
    return;
  }
  const std::vector<int32_t> tokens = test::sample_tokens(100);
  for (const std::string scheme :
       {"w16a16", "w4a8-kv8", "w8a8-kv8-q8", "w4a16-kv4-q4", "w8a8-kv8-q8+rotate"}) {
    CAPTURE(scheme);
    const std::vector<float> expected = run(*new_session(*test::tiny_engine(scheme)), tokens);
    const auto engine = cuda_engine(scheme, PrefillAttention::kCudnn);
    const std::vector<float> whole = run(*new_session(*engine), tokens);
    CHECK(distance(whole, expected) < tolerance(scheme));
    CHECK(run(*new_session(*engine), tokens) == whole);
    for (const int64_t chunk : {7, 64}) {
      const auto session = new_session(*engine, {.prefill_chunk = chunk});
      CHECK(distance(run(*session, tokens), expected) < tolerance(scheme));
    }
    const auto own = cuda_engine(scheme, PrefillAttention::kOwn);
    CHECK(distance(run(*new_session(*own), tokens), whole) < tolerance(scheme));
    bool named = false;
    for (int step = 0; step < engine->plan().plan().steps_size(); ++step) {
      named = named || engine->kernel_name(step, 100) == "cuda.attention_cudnn";
      CHECK(own->kernel_name(step, 100) != "cuda.attention_cudnn");
    }
    CHECK(named);
  }
}

TEST_CASE("all logits of a prompt come in order") {
  const std::vector<int32_t> tokens = test::sample_tokens(40);
  const auto engine = cuda_engine("w16a16");
  const auto expected = new_session(*test::tiny_engine("w16a16"));
  std::vector<std::vector<float>> rows;
  REQUIRE(expected
              ->run_all(tokens,
                        [&](int64_t, MatrixView<const float> logits) {
                          for (int64_t r = 0; r < logits.rows; ++r)
                            rows.emplace_back(logits.row(r), logits.row(r) + logits.cols);
                        })
              .ok());
  int64_t next = 0;
  const auto session = new_session(*engine, {.prefill_chunk = 16});
  REQUIRE(session
              ->run_all(tokens,
                        [&](int64_t first, MatrixView<const float> logits) {
                          CHECK(first == next);
                          for (int64_t r = 0; r < logits.rows; ++r) {
                            const std::span<const float> row(logits.row(r),
                                                             static_cast<size_t>(logits.cols));
                            CHECK(distance(row, rows[static_cast<size_t>(next++)]) <
                                  tolerance("w16a16"));
                          }
                        })
              .ok());
  CHECK(next == 40);
}

TEST_CASE("a batch of sequences decodes as each does alone, at its own position") {
  const std::vector<int32_t> tokens = test::sample_tokens(60);
  for (const std::string scheme :
       {"w16a16", "w4a16-kv4-q4", "w4a8-kv8", "w2ba8", "w8a8-kv8-q8+rotate"}) {
    CAPTURE(scheme);
    const auto engine = cuda_engine(scheme);
    for (const size_t batch : {1u, 3u, 9u}) {
      CAPTURE(batch);
      std::vector<std::unique_ptr<Session>> together, alone;
      std::vector<Session*> pointers;
      for (size_t i = 0; i < batch; ++i) {
        const std::span<const int32_t> prompt = std::span(tokens).first(2 + 5 * i);
        together.push_back(new_session(*engine, {.max_tokens = static_cast<int64_t>(20 + 10 * i)}));
        alone.push_back(new_session(*engine));
        run(*together.back(), prompt);
        run(*alone.back(), prompt);
        pointers.push_back(together.back().get());
      }
      for (int step = 0; step < 3; ++step) {
        const std::span<const int32_t> next =
            std::span(tokens).subspan(static_cast<size_t>(step), batch);
        const int64_t vocabulary = engine->plan().plan().model().vocab_size();
        std::vector<float> values(batch * static_cast<size_t>(vocabulary));
        const MatrixView<float> logits(values.data(), static_cast<int64_t>(batch), vocabulary);
        const Status status = engine->decode(pointers, next, logits);
        REQUIRE_MESSAGE(status.ok(), status.to_string());
        for (size_t i = 0; i < batch; ++i) {
          CAPTURE(i);
          const std::vector<float> expected = run(*alone[i], next.subspan(i, 1));
          const std::span<const float> row(logits.row(static_cast<int64_t>(i)), expected.size());
          CHECK(distance(row, expected) < tolerance(scheme));
          CHECK(together[i]->position() == alone[i]->position());
        }
      }
    }
  }
}

TEST_CASE("recorded steps hold across positions, longer prompts and other sessions") {
  const std::vector<int32_t> tokens = test::sample_tokens(300);
  const std::span<const int32_t> all(tokens);
  for (const std::string scheme : {"w16a16", "w4a8-kv8"}) {
    CAPTURE(scheme);
    const auto engine = cuda_engine(scheme);
    const auto alone = new_session(*engine);
    const auto disturbed = new_session(*engine);
    const auto cpu = new_session(*test::tiny_engine(scheme));
    run(*alone, all.first(200));
    run(*disturbed, all.first(200));
    run(*cpu, all.first(200));
    // A step's graph serves positions below 256: these go beyond.
    std::vector<std::vector<float>> expected;
    for (size_t i = 200; i < 260; ++i) {
      expected.push_back(run(*alone, all.subspan(i, 1)));
      const std::vector<float> reference = run(*cpu, all.subspan(i, 1));
      if (i % 10 == 0) CHECK(distance(expected.back(), reference) < tolerance(scheme));
    }
    for (size_t i = 200; i < 260; ++i) {
      CAPTURE(i);
      // What another session runs in between may move the memory that graphs hold.
      if (i % 20 == 0) run(*new_session(*engine), all.first(10 + i));
      CHECK(run(*disturbed, all.subspan(i, 1)) == expected[i - 200]);
    }
    disturbed->reset();
    run(*disturbed, all.first(200));
    CHECK(run(*disturbed, all.subspan(200, 1)) == expected[0]);
  }
}

TEST_CASE("large batches go through the kernels of prompts") {
  const std::vector<int32_t> tokens = test::sample_tokens(90);
  for (const std::string scheme : {"w4a8-kv8", "w2a2-kv2-q2", "w4a8-g64", "w4a16"}) {
    CAPTURE(scheme);
    const auto engine = cuda_engine(scheme);
    constexpr size_t kBatch = 70;
    std::vector<std::unique_ptr<Session>> sessions;
    std::vector<Session*> pointers;
    for (size_t i = 0; i < kBatch; ++i) {
      sessions.push_back(new_session(*engine, {.max_tokens = 16}));
      pointers.push_back(sessions.back().get());
    }
    const int64_t vocabulary = engine->plan().plan().model().vocab_size();
    std::vector<float> values(kBatch * static_cast<size_t>(vocabulary));
    const MatrixView<float> logits(values.data(), kBatch, vocabulary);
    for (size_t step = 0; step < 2; ++step) {
      const Status status =
          engine->decode(pointers, std::span(tokens).subspan(step, kBatch), logits);
      REQUIRE_MESSAGE(status.ok(), status.to_string());
    }
    const auto cpu = test::tiny_engine(scheme);
    for (const size_t i : {size_t{0}, size_t{37}, kBatch - 1}) {
      CAPTURE(i);
      const std::vector<int32_t> history = {tokens[i], tokens[i + 1]};
      const std::vector<float> expected = run(*new_session(*cpu), history);
      const std::span<const float> row(logits.row(static_cast<int64_t>(i)), expected.size());
      CHECK(distance(row, expected) < tolerance(scheme));
    }
  }
}

TEST_CASE("what runs is chosen by measurement where the artifact carries one") {
  const auto plan = LoadedPlan::open(test::tiny_artifact("w4a8-kv8"), Verify::kAll);
  REQUIRE(plan.ok());
  Program program = make_program(*plan);
  auto engine = create_cuda_device_engine(program);
  REQUIRE_MESSAGE(engine.ok(), engine.status().to_string());
  Result<Tuning> tuning = (*engine)->tune();
  REQUIRE_MESSAGE(tuning.ok(), tuning.status().to_string());
  REQUIRE_FALSE(tuning->choices.empty());
  // Another answer than the built-in one shows whose it is.
  for (TunedChoice& choice : tuning->choices) {
    CHECK(choice.us > 0);
    choice.kernel = "cuda.bytes";
  }
  program.tunings = {*tuning};
  const auto tuned = create_cuda_device_engine(program);
  REQUIRE_MESSAGE(tuned.ok(), tuned.status().to_string());
  int changed = 0;
  for (size_t i = 0; i < program.steps.size(); ++i) {
    if (!std::holds_alternative<Program::BitLinear>(program.steps[i].operation)) continue;
    CHECK((*tuned)->kernel_name(static_cast<int>(i), 1) == "cuda.bytes");
    changed += (*engine)->kernel_name(static_cast<int>(i), 1) != "cuda.bytes" ? 1 : 0;
  }
  CHECK(changed > 0);
}

TEST_CASE("a token drawn on the device is the one that its logits give, draw by draw") {
  const auto engine = cuda_engine("w4a8-kv8");
  const auto with_logits = new_session(*engine);
  const auto drawn = new_session(*engine);
  Sampler sampler({.temperature = 0.8f, .top_k = 60, .top_p = 0.9f, .seed = 4});
  int32_t id = test::sample_tokens(1)[0];
  for (int i = 0; i < 24; ++i) {
    CAPTURE(i);
    const TokenDraw draw = sampler.next_draw();
    const int32_t expected = draw_token(run(*with_logits, {&id, 1}), draw);
    const Result<int32_t> got = drawn->run_next({&id, 1}, draw);
    REQUIRE_MESSAGE(got.ok(), got.status().to_string());
    CHECK(*got == expected);
    id = expected;
  }
}

TEST_CASE("what cannot run is refused in words, and leaves the sessions as they were") {
  const auto engine = cuda_engine("w4a8-kv8");
  const auto other = cuda_engine("w2a8");
  const auto session = new_session(*engine, {.max_tokens = 4});
  const auto stranger = new_session(*other);
  const std::vector<int32_t> tokens = test::sample_tokens(5);
  CHECK(session->run(tokens).status().message().find("context overflow") != std::string::npos);
  CHECK(session->position() == 0);
  const int64_t vocabulary = engine->plan().plan().model().vocab_size();
  std::vector<float> values(2 * static_cast<size_t>(vocabulary));
  const MatrixView<float> two(values.data(), 2, vocabulary);
  Session* const mixed[] = {session.get(), stranger.get()};
  Session* const twice[] = {session.get(), session.get()};
  const std::span<const int32_t> pair = std::span(tokens).first(2);
  CHECK(engine->decode(mixed, pair, two).message().find("another engine") != std::string::npos);
  CHECK(engine->decode(twice, pair, two).message().find("twice") != std::string::npos);
  CHECK(session->position() == 0);
}

TEST_CASE("what no kernel takes is refused before anything is uploaded, all steps together") {
  const auto plan = LoadedPlan::open(test::tiny_artifact("w4a8-kv8"), Verify::kAll);
  REQUIRE(plan.ok());
  Program program = make_program(*plan);
  for (Program::Step& step : program.steps) {
    if (auto* attention = std::get_if<Program::Attention>(&step.operation))
      attention->shape.head_dim = 320;
  }
  const auto engine = create_cuda_device_engine(program);
  REQUIRE_FALSE(engine.ok());
  const std::string words = engine.status().to_string();
  CAPTURE(words);
  CHECK(engine.status().code() == StatusCode::kDevice);
  CHECK(words.find("even head size up to 256, got 320") != std::string::npos);
  CHECK(words.find("even head size") != words.rfind("even head size"));
}

TEST_CASE("transforms that attention does not take run as kernels of their own") {
  // Heads are transformed by halves: the same function, of queries and keys alike.
  const auto plan = LoadedPlan::open(test::tiny_artifact("w4a16-kv8-q8+rotate"), Verify::kAll);
  REQUIRE(plan.ok());
  Program program = make_program(*plan);
  for (Program::Step& step : program.steps) {
    auto* const transform = std::get_if<Program::Hadamard>(&step.operation);
    if (transform != nullptr && transform->size == 32) transform->size = 16;
  }
  const auto engine = create_cuda_device_engine(program);
  REQUIRE_MESSAGE(engine.ok(), engine.status().to_string());
  const auto fused = create_cuda_device_engine(make_program(*plan));
  REQUIRE_MESSAGE(fused.ok(), fused.status().to_string());
  const std::vector<int32_t> tokens = test::sample_tokens(40);
  std::vector<std::vector<float>> logits;
  for (DeviceEngine* const one : {engine->get(), fused->get()}) {
    auto session = one->new_session({.capacity = 64});
    REQUIRE_MESSAGE(session.ok(), session.status().to_string());
    logits.emplace_back(static_cast<size_t>(program.vocab_size));
    REQUIRE((*session)->run(std::span(tokens).first(37), 1, logits.back().data()).ok());
    for (size_t i = 37; i < 40; ++i)
      REQUIRE((*session)->run(std::span(tokens).subspan(i, 1), 1, logits.back().data()).ok());
  }
  CHECK(distance(logits[0], logits[1]) < tolerance("w4a16-kv8-q8"));
  int kernels = 0;
  for (size_t i = 0; i < program.steps.size(); ++i)
    kernels += (*engine)->kernel_name(static_cast<int>(i), 1) == "cuda.hadamard" ? 1 : 0;
  CHECK(kernels == 6);  // queries, keys and the down projection's input of two blocks
}

TEST_CASE("a transform longer than a kernel's memory is refused in words") {
  const auto plan = LoadedPlan::open(test::tiny_artifact("w8a8+rotate"), Verify::kAll);
  REQUIRE(plan.ok());
  Program program = make_program(*plan);
  for (Program::Step& step : program.steps) {
    if (auto* transform = std::get_if<Program::Hadamard>(&step.operation)) transform->size = 65536;
  }
  const auto engine = create_cuda_device_engine(program);
  REQUIRE_FALSE(engine.ok());
  const std::string words = engine.status().to_string();
  CAPTURE(words);
  CHECK(words.find("a Hadamard transform of 65536 columns; the longest is 49152") !=
        std::string::npos);
}

TEST_CASE("the golden prompt continues token by token, greedily on the device") {
  const auto text = read_text_file(test::tiny_llama_dir() + "/golden.json");
  REQUIRE(text.ok());
  const nlohmann::json golden = nlohmann::json::parse(*text);
  const auto prompt = golden["prompt_ids"].get<std::vector<int32_t>>();
  const auto expected = golden["greedy_ids"].get<std::vector<int32_t>>();
  const auto engine = cuda_engine("w16a16");
  const auto session = new_session(*engine);
  std::vector<int32_t> ids;
  const auto stats = generate(
      *session, prompt, {.max_new_tokens = static_cast<int64_t>(expected.size())}, [&](int32_t id) {
        ids.push_back(id);
        return true;
      });
  REQUIRE_MESSAGE(stats.ok(), stats.status().to_string());
  CHECK(ids == expected);
}

TEST_CASE("perplexities agree with the CPU's") {
  // At 4 bits one moved code is a large step: over so few tokens that noise does not average out.
  const std::vector<int32_t> tokens = test::sample_tokens(1500);
  struct Case {
    const char* scheme;
    double tolerance;
  };
  for (const Case& c : {Case{"w16a16", 5e-4}, Case{"w2ba16", 2e-3}, Case{"w8a8-kv8-q8", 2e-3},
                        Case{"w2ba8-kv8-q8", 2e-3}, Case{"w4a4-kv4-q4", 2e-2},
                        Case{"w8a8-kv8-q8+rotate", 2e-3}, Case{"w4a4-kv4-q4+rotate", 2e-2}}) {
    CAPTURE(std::string(c.scheme));
    const PerplexityOptions options = {.convention = {256}};
    const auto cpu = measure_perplexity(*test::tiny_engine(c.scheme), tokens, options);
    const auto cuda = measure_perplexity(*cuda_engine(c.scheme), tokens, options);
    REQUIRE(cpu.ok());
    REQUIRE_MESSAGE(cuda.ok(), cuda.status().to_string());
    CHECK(std::abs(cuda->perplexity / cpu->perplexity - 1) < c.tolerance);
  }
}

TEST_CASE("the artifact's own self-test passes on the device") {
  for (const char* scheme : {"w16a16", "w4a8-kv8", "w4a4-kv4-q4+rotate"}) {
    const Status status = run_self_test(*cuda_engine(scheme));
    CHECK_MESSAGE(status.ok(), status.to_string());
  }
}

TEST_CASE("every step names its kernel") {
  const auto engine = cuda_engine("w4a8-kv8");
  for (int step = 0; step < engine->plan().plan().steps_size(); ++step) {
    CHECK(engine->kernel_name(step, 1).starts_with("cuda."));
    CHECK(engine->kernel_name(step, 512).starts_with("cuda."));
  }
}

}  // namespace abq::runtime
