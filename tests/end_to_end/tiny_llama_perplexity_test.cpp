// tiny-llama's own rows: perplexity of the artifacts on the bundled text, windows of 256.
#include <doctest/doctest.h>

#include "runtime/perplexity.h"
#include "tests/common/tiny_artifact.h"
#include "tools/compile.h"

namespace abq {
namespace {

double perplexity_of(const runtime::Engine& engine) {
  const std::vector<int32_t> tokens = test::sample_tokens(94 * 256);
  const auto result = runtime::measure_perplexity(engine, tokens, {.convention = {256}});
  REQUIRE_MESSAGE(result.ok(), result.status().to_string());
  return result->perplexity;
}

double perplexity(const char* scheme) {
  return perplexity_of(*test::tiny_engine(scheme));
}

double compiled_perplexity(tools::CompileOptions options) {
  options.force = true;  // cases share what they compile
  const auto compiled = tools::compile(options);
  REQUIRE_MESSAGE(compiled.ok(), compiled.status().to_string());
  auto plan = runtime::LoadedPlan::open(options.output, runtime::Verify::kAll);
  REQUIRE_MESSAGE(plan.ok(), plan.status().to_string());
  auto engine =
      runtime::Engine::create(std::move(plan).value(), {.device = runtime::DeviceKind::kCpu});
  REQUIRE_MESSAGE(engine.ok(), engine.status().to_string());
  return perplexity_of(**engine);
}

// Method `method` on a little of the bundled text.
double calibrated_perplexity(const std::string& method, const std::string& scheme,
                             const std::string& rotation = {}) {
  tools::CompileOptions options;
  options.model_dir = test::tiny_llama_dir();
  options.output = (test::temporary_dir() / (method + "-" + scheme + rotation + ".abq")).string();
  options.scheme = scheme;
  options.method = method;
  options.rotation = rotation;
  options.calibration_file = std::string(ABQ_TEST_DATA_DIR) + "/wikitext2-slice.txt";
  options.calibration_windows = 32;
  options.calibration_context = 128;
  // As many steps as a larger text would give.
  if (method == "abq") options.correction.batch = 1;
  options.device = "cpu";
  options.resume = false;
  return compiled_perplexity(options);
}

double rotated_perplexity(const std::string& scheme, const std::string& rotation) {
  tools::CompileOptions options;
  options.model_dir = test::tiny_llama_dir();
  options.output = (test::temporary_dir() / ("rotated-" + rotation + scheme + ".abq")).string();
  options.scheme = scheme;
  options.rotation = rotation;
  return compiled_perplexity(options);
}

}  // namespace

// Expected values: scripts/reference_perplexity.py, a NumPy implementation of docs/quantization.md
// that shares no code with this project.
TEST_CASE("perplexity of tiny-llama is what an independent implementation computes") {
  struct Row {
    const char* scheme;
    double expected;
    double tolerance;  // relative; wide where a code at a rounding tie moves many others
  };
  constexpr Row kRows[] = {
      {"w16a16", 24.4599, 1e-4},
      {"w8a8-kv8-q8", 24.4779, 5e-4},
      {"w4a4-kv4-q4", 31.9038, 1e-2},
      {"w2ba8-kv8-q8", 85.0342, 1e-3},
  };
  for (const Row& row : kRows) {
    CAPTURE(std::string(row.scheme));
    CHECK(perplexity(row.scheme) == doctest::Approx(row.expected).epsilon(row.tolerance));
  }
}

TEST_CASE("a rotation leaves the perplexity of floats and lowers that of few bits") {
  const double full = perplexity("w16a16");
  for (const char* rotation : {"hadamard", "orthogonal"}) {
    CAPTURE(std::string(rotation));
    CHECK(rotated_perplexity("w16a16", rotation) == doctest::Approx(full).epsilon(1e-5));
    const double four = rotated_perplexity("w4a4-kv4-q4", rotation);
    CHECK(four > full);
    CHECK(four < perplexity("w4a4-kv4-q4"));
  }
}

TEST_CASE("what corrects rounding corrects it on a rotated model too") {
  const char* const scheme = "w4a4-kv4-q4";
  const double rounded = rotated_perplexity(scheme, "hadamard");
  for (const char* method : {"gptq", "abq"}) {
    CAPTURE(std::string(method));
    const double both = calibrated_perplexity(method, scheme, "hadamard");
    CHECK(both > perplexity("w16a16"));
    CHECK(both < rounded);
    CHECK(both < calibrated_perplexity(method, scheme));
  }
}

TEST_CASE("perplexity grows as bits are taken away") {
  const double full = perplexity("w16a16");
  const double eight = perplexity("w8a8-kv8-q8");
  const double four = perplexity("w4a4-kv4-q4");
  const double two_balanced = perplexity("w2ba8-kv8-q8");
  const double two = perplexity("w2a8");
  CHECK(full < eight * 1.001);
  CHECK(eight < four);
  CHECK(four < two_balanced);
  CHECK(two_balanced < two);
}

// The text is both learned from and scored: this is about the whole path, not about accuracy
// elsewhere (docs/benchmarks.md).
TEST_CASE("distribution correction beats rounding by far at 2 and at 4 bits") {
  // The part of what rounding loses that has to come back.
  struct Row {
    const char* scheme;
    double recovered;
  };
  for (const Row& row : {Row{"w2ba8-kv8-q8", 0.6}, Row{"w4a4-kv4-q4", 0.1}}) {
    CAPTURE(std::string(row.scheme));
    const double full = perplexity("w16a16");
    const double rounded = perplexity(row.scheme);
    const double learned = calibrated_perplexity("abq", row.scheme);
    CHECK(learned > full);
    CHECK(learned < rounded - row.recovered * (rounded - full));
  }
}

TEST_CASE("gptq beats rounding at 2 and at 4 bits") {
  // The part of what rounding loses that has to come back.
  struct Row {
    const char* scheme;
    double recovered;
  };
  for (const Row& row : {Row{"w2ba8-kv8-q8", 0.6}, Row{"w4a4-kv4-q4", 0.1}}) {
    CAPTURE(std::string(row.scheme));
    const double full = perplexity("w16a16");
    const double rounded = perplexity(row.scheme);
    const double chosen = calibrated_perplexity("gptq", row.scheme);
    CHECK(chosen > full);
    CHECK(chosen < rounded - row.recovered * (rounded - full));
  }
}

}  // namespace abq
