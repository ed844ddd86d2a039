// tiny-llama's own rows: perplexity of the artifacts on the bundled text, windows of 256.
#include <doctest/doctest.h>

#include "runtime/perplexity.h"
#include "tests/common/tiny_artifact.h"

namespace abq {
namespace {

double perplexity(const char* scheme) {
  const std::vector<int32_t> tokens = test::sample_tokens(94 * 256);
  const auto result =
      runtime::measure_perplexity(*test::tiny_engine(scheme), tokens, {.convention = {256}});
  REQUIRE_MESSAGE(result.ok(), result.status().to_string());
  return result->perplexity;
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

}  // namespace abq
