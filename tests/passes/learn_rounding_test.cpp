#include <doctest/doctest.h>

#include <string>

#include "passes/layers.h"
#include "test_model.h"

namespace abq::passes::testing {
namespace {

PassContext context_with_windows(const std::string& scheme, int64_t epochs = 30) {
  PassContext context = context_for(scheme);
  context.calibration_windows = make_windows(8, 24);
  context.recipe.method = "best";
  context.recipe.correction.epochs = epochs;
  context.recipe.correction.batch = 2;
  // Few steps: large ones.
  context.recipe.correction.code_rate = 3e-2;
  context.recipe.correction.step_rate = 5e-3;
  return context;
}

const std::vector<std::string> kLearned = {
    "assign-schemes", "balance-bits", "calibrate",        "gptq",
    "learn-rounding", "quantize",     "replay-quantized", "measure-outputs"};

std::vector<std::byte> bytes_of(const ir::Module& module) {
  std::vector<std::byte> bytes;
  for (const auto& [name, tensor] : module.tensors)
    bytes.insert(bytes.end(), tensor.data.bytes().begin(), tensor.data.bytes().end());
  return bytes;
}

}  // namespace

TEST_CASE("learned rounding lowers every block's loss below that of GPTQ's codes and moves codes") {
  for (const char* scheme : {"w2a8", "w3a4-kv4-q4", "w2ba8-g32"}) {
    CAPTURE(std::string(scheme));
    ir::Module module = make_test_model();
    PassContext context = context_with_windows(scheme);
    REQUIRE(run_passes(kLearned, module, context).ok());
    REQUIRE(context.report.blocks.size() == kLayers);
    for (const quant::BlockReport& block : context.report.blocks) {
      CHECK(block.learned_kept);
      CHECK(block.learned.total < 0.95 * block.rounding.total);
      CHECK(block.changed_codes > 0.001);
      CHECK(block.changed_codes < 0.9);
      CHECK(block.epochs.size() == 30);
    }
    CHECK(context.rounded_layers.empty());
    CHECK(context.learned_norms.empty());
  }
}

TEST_CASE("the stream behind learned rounding is that of the stored block") {
  ir::Module module = make_test_model();
  PassContext context = context_with_windows("w3a8");
  REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, context).ok());
  ir::Region& block = region_named(module, "layers.0");
  for (const char* name : {"calibrate", "gptq", "learn-rounding", "quantize"})
    REQUIRE(dynamic_cast<BlockPass&>(**create_pass(name)).run(module, block, context).ok());
  const Stream learned = std::move(context.quantized_outputs);
  context.quantized_outputs = {};
  REQUIRE(
      dynamic_cast<BlockPass&>(**create_pass("replay-quantized")).run(module, block, context).ok());
  std::vector<float> expected(static_cast<size_t>(24 * kHidden));
  std::vector<float> got = expected;
  for (int64_t w = 0; w < learned.windows(); ++w) {
    REQUIRE(learned.read(w, 1, got).ok());
    REQUIRE(context.quantized_stream.read(w, 1, expected).ok());
    CHECK(got == expected);
  }
}

TEST_CASE("learned rounding gives the same bytes again, and others with another seed") {
  const auto run = [](uint64_t seed) {
    ir::Module module = make_test_model();
    PassContext context = context_with_windows("w2a8", 2);
    context.recipe.seed = seed;
    REQUIRE(run_passes(kLearned, module, context).ok());
    return bytes_of(module);
  };
  const std::vector<std::byte> first = run(0);
  CHECK(first == run(0));
  CHECK(first != run(1));
}

TEST_CASE("rates that are too high leave GPTQ's codes, and the report says so") {
  ir::Module module = make_test_model();
  PassContext context = context_with_windows("w2a8", 3);
  context.recipe.correction.step_rate = 10;
  context.recipe.correction.schedule = quant::RateSchedule::kConstant;
  REQUIRE(run_passes(kLearned, module, context).ok());
  for (const quant::BlockReport& block : context.report.blocks)
    CHECK_FALSE(block.learned_kept);
}

TEST_CASE("learned passes have epochs of their own where the recipe does not say") {
  const auto epochs = [](const std::string& learn, bool behind_gptq) {
    ir::Module module = make_test_model();
    PassContext context = context_for("w4a8");
    context.calibration_windows = make_windows(2, 8);
    std::vector<std::string> names = {"assign-schemes", "balance-bits", "calibrate"};
    if (behind_gptq) names.push_back("gptq");
    names.push_back(learn);
    REQUIRE(run_passes(names, module, context).ok());
    return context.report.blocks.at(0).epochs.size();
  };
  CHECK(epochs("learn-rounding", true) == quant::kRoundingEpochs);
  CHECK(epochs("correct-distribution", false) == quant::kCorrectionEpochs);
}

TEST_CASE("learned rounding needs the float block's outputs and gptq's codes") {
  ir::Module module = make_test_model();
  PassContext context = context_with_windows("w4a8");
  CHECK(
      run_passes({"assign-schemes", "balance-bits", "learn-rounding"}, module, context).message() ==
      "pass learn-rounding on layers.0: learn-rounding needs the float block's outputs; run "
      "calibrate before");
  // Nothing to learn: no codes at all.
  context = context_with_windows("w4a8");
  REQUIRE(
      run_passes({"assign-schemes", "balance-bits", "calibrate", "learn-rounding"}, module, context)
          .ok());
  CHECK(context.report.blocks.empty());
}

}  // namespace abq::passes::testing
