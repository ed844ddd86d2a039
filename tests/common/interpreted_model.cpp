#include "tests/common/interpreted_model.h"

#include <doctest/doctest.h>

#include <cmath>

#include "frontend/frontend.h"
#include "ir/interpreter.h"
#include "passes/pass.h"
#include "runtime/perplexity.h"

namespace abq::test {

ir::Module quantized_module(const std::string& model_dir, const std::string& scheme) {
  auto checkpoint = frontend::import_checkpoint(model_dir);
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

double interpreter_perplexity(const ir::Module& module, std::span<const int32_t> tokens,
                              int64_t context, int64_t windows, const compute::Device& device) {
  double total = 0;
  for (int64_t w = 0; w < windows; ++w) {
    const auto window =
        tokens.subspan(static_cast<size_t>(w * context), static_cast<size_t>(context));
    const auto logits = ir::Interpreter(device).logits(module, window);
    REQUIRE_MESSAGE(logits.ok(), logits.status().to_string());
    for (int64_t r = 0; r + 1 < context; ++r) {
      total += runtime::negative_log_likelihood(std::as_const(*logits).view().row_span(r),
                                                window[static_cast<size_t>(r + 1)]);
    }
  }
  return std::exp(total / static_cast<double>(windows * (context - 1)));
}

}  // namespace abq::test
