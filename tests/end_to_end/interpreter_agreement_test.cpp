// The runtime against the reference interpreter on the same quantized graph: what is evaluated
// before deployment is what is deployed.
#include <doctest/doctest.h>

#include "runtime/perplexity.h"
#include "tests/common/interpreted_model.h"
#include "tests/common/tiny_artifact.h"

namespace abq {
namespace {

constexpr int64_t kContext = 128;
constexpr int64_t kWindows = 40;

}  // namespace

TEST_CASE("the artifact's perplexity is the interpreter's on the quantized graph") {
  const std::vector<int32_t> tokens = test::sample_tokens(kWindows * kContext);
  struct Row {
    std::string scheme;
    // Per channel both sides round alike, and on one instruction set the numbers are equal. Groups
    // are added in another order, and a code at a tie that moves by one step moves what follows:
    // much at 4 bits, and averaged out over tokens.
    double tolerance;
  };
  const Row rows[] = {{"w16a16", 1e-5},    {"w8a8-kv8-q8", 1e-3}, {"w4a4-kv4-q4", 5e-3},
                      {"w2ba8-g64", 1e-3}, {"w3a16", 1e-4},       {"w1a8", 1e-3},
                      {"w1ba8", 1e-3},     {"w4a8-sym", 1e-3}};
  for (const Row& row : rows) {
    CAPTURE(row.scheme);
    const double reference =
        test::interpreter_perplexity(test::quantized_module(test::tiny_llama_dir(), row.scheme),
                                     tokens, kContext, kWindows, compute::cpu_device());
    const auto measured = runtime::measure_perplexity(*test::tiny_engine(row.scheme), tokens,
                                                      {.convention = {kContext}});
    REQUIRE_MESSAGE(measured.ok(), measured.status().to_string());
    CHECK(measured->perplexity == doctest::Approx(reference).epsilon(row.tolerance));
  }
}

}  // namespace abq
