// The reference checkpoint: skipped where it is absent.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "runtime/generate.h"
#include "runtime/perplexity.h"
#include "support/mapped_file.h"
#include "tests/common/interpreted_model.h"
#include "tests/common/reference.h"
#include "tests/common/tiny_artifact.h"
#include "tools/compile.h"
#include "tools/model_files.h"

namespace abq {
namespace {

std::string model_dir() {
  return (test::reference_dir() / "models" / "wiki-llama-19m").string();
}

std::shared_ptr<const runtime::Engine> compiled(
    const std::string& scheme, runtime::DeviceKind device = runtime::DeviceKind::kAuto) {
  tools::CompileOptions options;
  options.model_dir = model_dir();
  options.output = (test::temporary_dir() / ("wiki-" + scheme + ".abq")).string();
  options.scheme = scheme;
  options.force = true;
  const auto result = tools::compile(options);
  REQUIRE_MESSAGE(result.ok(), result.status().to_string());
  const auto plan = runtime::LoadedPlan::open(options.output, runtime::Verify::kAll);
  REQUIRE_MESSAGE(plan.ok(), plan.status().to_string());
  const auto engine = runtime::Engine::create(*plan, {.device = device});
  REQUIRE_MESSAGE(engine.ok(), engine.status().to_string());
  return *engine;
}

// The ids of the test text.
std::vector<int32_t> test_tokens() {
  const auto tokenizer = tools::load_model_tokenizer(model_dir());
  REQUIRE(tokenizer.ok());
  const auto text =
      read_text_file((test::reference_dir() / "text" / "wikitext2-test.txt").string());
  REQUIRE(text.ok());
  const auto tokens = tokenizer->tokenizer->encode(*text, tokenizer::SpecialTokens::kOmit);
  REQUIRE(tokens.ok());
  return *tokens;
}

}  // namespace

TEST_CASE("wiki-llama-19m continues its golden prompt token by token") {
  const auto text = read_text_file(model_dir() + "/golden.json");
  REQUIRE(text.ok());
  const nlohmann::json golden = nlohmann::json::parse(*text);
  const auto prompt = golden["prompt_ids"].get<std::vector<int32_t>>();
  const auto expected = golden["greedy_ids"].get<std::vector<int32_t>>();
  const auto engine = compiled("w16a16");
  const auto session = engine->new_session({});
  REQUIRE(session.ok());
  std::vector<int32_t> ids;
  REQUIRE(runtime::generate(**session, prompt,
                            {.max_new_tokens = static_cast<int64_t>(expected.size())},
                            [&](int32_t id) {
                              ids.push_back(id);
                              return true;
                            })
              .ok());
  CHECK(ids == expected);
}

TEST_CASE("w2ba8 takes at most 2.50 bits per weight and 0.47 of the checkpoint") {
  const auto engine = compiled("w2ba8");
  CHECK(engine->plan().plan().report().block_linear_bits() <= 2.50);
  int64_t checkpoint = 0;
  for (const auto& entry : std::filesystem::directory_iterator(model_dir())) {
    if (entry.path().extension() == ".safetensors" &&
        entry.path().filename().string().starts_with("model")) {
      checkpoint += static_cast<int64_t>(entry.file_size());
    }
  }
  CHECK(static_cast<double>(engine->plan().file_size()) <= 0.47 * static_cast<double>(checkpoint));
}

TEST_CASE("the first windows of the test text score as they do in other implementations") {
  const auto engine = compiled("w16a16");
  const std::vector<int32_t> tokens = test_tokens();
  CHECK(tokens.size() == 341660);
  const auto result =
      runtime::measure_perplexity(*engine, tokens, {.convention = {1024}, .max_windows = 4});
  REQUIRE(result.ok());
  // scripts/reference_perplexity.py on the same windows.
  CHECK(result->perplexity == doctest::Approx(21.0229).epsilon(1e-4));
}

TEST_CASE("quantized artifacts score four windows as the IR interpreter does, on the CPU") {
  const std::vector<int32_t> tokens = test_tokens();
  for (const char* scheme : {"w16a16", "w8a8-kv8-q8", "w4a8-kv8-q8", "w4a4-kv4-q4", "w2ba8"}) {
    CAPTURE(std::string(scheme));
    const auto engine = compiled(scheme, runtime::DeviceKind::kCpu);
    const auto result =
        runtime::measure_perplexity(*engine, tokens, {.convention = {1024}, .max_windows = 4});
    REQUIRE(result.ok());
    // On the compute device of the CPU: the float64 reference device would take minutes here.
    const double expected = test::interpreter_perplexity(
        test::quantized_module(model_dir(), scheme), tokens, 1024, 4, compute::cpu_device());
    CHECK(result->perplexity == doctest::Approx(expected).epsilon(1e-3));
  }
}

}  // namespace abq
