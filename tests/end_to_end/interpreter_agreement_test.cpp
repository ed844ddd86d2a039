// The runtime against the reference interpreter on the same quantized graph: what is evaluated
// before deployment is what is deployed.
#include <doctest/doctest.h>

#include <cmath>

#include "frontend/frontend.h"
#include "ir/interpreter.h"
#include "passes/pass.h"
#include "runtime/perplexity.h"
#include "tests/common/tiny_artifact.h"

namespace abq {
namespace {

constexpr int64_t kContext = 128;
constexpr int64_t kWindows = 40;

// The module after the pipeline of `scheme`, still in memory.
ir::Module quantized_module(const std::string& scheme) {
  auto checkpoint = frontend::import_checkpoint(test::tiny_llama_dir());
  REQUIRE_MESSAGE(checkpoint.ok(), checkpoint.status().to_string());
  passes::PassContext context;
  const auto parsed = quant::parse_scheme(scheme);
  REQUIRE(parsed.ok());
  context.recipe.scheme = *parsed;
  const auto pipeline = passes::pipeline_for(context.recipe, false);
  REQUIRE(pipeline.ok());
  passes::PassManager manager({});
  for (const passes::PipelineStep& step : *pipeline)
    REQUIRE(manager.add(step.pass).ok());
  const Status status = manager.run(checkpoint->module, context);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  return std::move(checkpoint->module);
}

double interpreter_nll(const ir::Module& module, std::span<const int32_t> tokens) {
  double total = 0;
  for (int64_t w = 0; w < kWindows; ++w) {
    const auto window = tokens.subspan(static_cast<size_t>(w * kContext), kContext);
    const auto logits = ir::Interpreter().logits(module, window);
    REQUIRE_MESSAGE(logits.ok(), logits.status().to_string());
    for (int64_t r = 0; r + 1 < kContext; ++r) {
      total += runtime::negative_log_likelihood(std::as_const(*logits).view().row_span(r),
                                                window[static_cast<size_t>(r + 1)]);
    }
  }
  return total / static_cast<double>(kWindows * (kContext - 1));
}

}  // namespace

TEST_CASE("the artifact's perplexity is the interpreter's on the quantized graph") {
  const std::vector<int32_t> tokens = test::sample_tokens(kWindows * kContext);
  struct Row {
    std::string scheme;
    // Both sides round at the same places, but their float sums run in another order: a code at a
    // tie moves by one step, which is large at 4 bits and averages out over tokens.
    double tolerance;
  };
  const Row rows[] = {{"w16a16", 1e-5},    {"w8a8-kv8-q8", 1e-3}, {"w4a4-kv4-q4", 5e-3},
                      {"w2ba8-g64", 1e-3}, {"w3a16", 1e-4},       {"w1a8", 1e-3},
                      {"w1ba8", 1e-3},     {"w4a8-sym", 1e-3}};
  for (const Row& row : rows) {
    CAPTURE(row.scheme);
    const double reference = interpreter_nll(quantized_module(row.scheme), tokens);
    const auto measured = runtime::measure_perplexity(*test::tiny_engine(row.scheme), tokens,
                                                      {.convention = {kContext}});
    REQUIRE_MESSAGE(measured.ok(), measured.status().to_string());
    CHECK(measured->perplexity == doctest::Approx(std::exp(reference)).epsilon(row.tolerance));
  }
}

}  // namespace abq
