#include <doctest/doctest.h>

#include "passes/pass.h"

namespace abq::passes {
namespace {

std::vector<std::string> step_names(const std::string& method, bool calibrated) {
  quant::Recipe recipe;
  recipe.method = method;
  const Result<std::vector<PipelineStep>> steps = pipeline_for(recipe, calibrated);
  REQUIRE(steps.ok());
  std::vector<std::string> names;
  for (const PipelineStep& step : *steps) {
    CHECK(!step.reason.empty());
    CHECK(create_pass(step.pass).ok());
    names.emplace_back(step.pass);
  }
  return names;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("rtn needs no calibration and measures outputs when it has one") {
  CHECK(step_names("rtn", false) ==
        Names{"assign-schemes", "balance-bits", "quantize", "pack-weights"});
  CHECK(step_names("rtn", true) == Names{"assign-schemes", "balance-bits", "calibrate", "quantize",
                                         "measure-outputs", "pack-weights"});
}

TEST_CASE("smooth folds its scales between calibration and quantization") {
  CHECK(step_names("smooth", true) == Names{"assign-schemes", "balance-bits", "calibrate", "smooth",
                                            "quantize", "measure-outputs", "pack-weights"});
}

TEST_CASE("a rotation comes before whatever a method does") {
  quant::Recipe recipe;
  recipe.rotation = quant::RotationSettings{};
  for (const char* method : {"rtn", "smooth", "gptq", "abq", "best"}) {
    recipe.method = method;
    const Result<std::vector<PipelineStep>> steps = pipeline_for(recipe, true);
    REQUIRE(steps.ok());
    CHECK((*steps)[0].pass == "assign-schemes");
    CHECK((*steps)[2].pass == "rotate");
    CHECK((*steps)[3].pass == "calibrate");
  }
}

TEST_CASE("gptq chooses codes before quantize stores them, and each block sees those before it") {
  CHECK(step_names("gptq", true) == Names{"assign-schemes", "balance-bits", "calibrate", "gptq",
                                          "quantize", "replay-quantized", "measure-outputs",
                                          "pack-weights"});
}

TEST_CASE("best learns behind gptq, distils when all blocks have codes, and then stores them") {
  const Names first = {"assign-schemes", "balance-bits",   "calibrate",
                       "gptq",           "learn-rounding", "replay-quantized"};
  const Names last = {"quantize", "measure-outputs", "pack-weights"};
  Names names = first;
  names.insert(names.end(), {"distill", "calibrate"});
  names.insert(names.end(), last.begin(), last.end());
  CHECK(step_names("best", true) == names);

  quant::Recipe recipe;
  recipe.method = "best";
  recipe.distillation.epochs = 0;
  const std::vector<PipelineStep> steps = *pipeline_for(recipe, true);
  REQUIRE(steps.size() == first.size() + last.size());
  CHECK(steps[first.size()].pass == last[0]);
}

TEST_CASE("smooth without calibration text is refused with what to give") {
  quant::Recipe recipe;
  recipe.method = "smooth";
  const auto steps = pipeline_for(recipe, false);
  REQUIRE(!steps.ok());
  CHECK(steps.status().code() == StatusCode::kInvalidArgument);
  CHECK(steps.status().message() == "smooth needs calibration text; give --calib FILE");
}

TEST_CASE("an unknown method is refused with those there are") {
  quant::Recipe recipe;
  recipe.method = "awq";
  const auto steps = pipeline_for(recipe, true);
  REQUIRE(!steps.ok());
  CHECK(steps.status().message() ==
        "method 'awq' does not exist; there are rtn, smooth, gptq, abq, best");
}

}  // namespace abq::passes
