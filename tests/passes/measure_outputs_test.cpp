#include <doctest/doctest.h>

#include "passes/passes.h"
#include "quant/distortion.h"
#include "test_model.h"

namespace abq::passes::testing {
namespace {

const std::vector<std::string> kMeasured = {"assign-schemes", "balance-bits",    "calibrate",
                                            "quantize",       "measure-outputs", "pack-weights"};

PassContext measure(const std::string& scheme) {
  ir::Module module = make_test_model();
  PassContext context = context_for(scheme);
  context.calibration_windows = make_windows(10, 12);
  REQUIRE(run_passes(kMeasured, module, context).ok());
  return context;
}

// The output of a quantized layer for `x`, by the interpreter.
ir::Matrix quantized_output(const ir::Module& module, const ir::Region& block,
                            const ir::Node& layer, const ir::Matrix& x) {
  const int producer = block.producer(layer.operands[0]);
  const ir::Node* tokens = producer < 0 ? nullptr : &block.nodes[static_cast<size_t>(producer)];
  ir::Matrix input = x;
  if (tokens != nullptr && tokens->op == ir::Op::kQuantizeTokens) {
    const ir::Matrix* operand = &x;
    input = *ir::evaluate(module, block, *tokens, std::span(&operand, 1));
  }
  std::vector<const ir::Matrix*> operands(layer.operands.size(), nullptr);
  operands[0] = &input;
  return *ir::evaluate(module, block, layer, operands);
}

// By layer name: outputs of the quantized layers of `block` against those of the float block.
std::map<std::string, quant::Distortion> distortions(const ir::Module& module,
                                                     const ir::Region& block,
                                                     const PassContext& context) {
  std::map<std::string, quant::Distortion> all;
  ir::Matrix input;
  ir::Interpreter interpreter;
  interpreter.observe_inputs([&](const ir::Node&, const ir::Matrix& x) { input = x; });
  interpreter.observe_outputs([&](const ir::Node& node, const ir::Matrix& y) {
    if (node.op != ir::Op::kLinear) return;
    const ir::Node& layer = node_named(block, node.name);
    all[node.name].add(y.data, quantized_output(module, block, layer, input).data);
  });
  for (const ir::Matrix& x : context.quality_inputs)
    REQUIRE(interpreter.run(*context.float_block, context.float_block->regions.front(), x).ok());
  return all;
}

}  // namespace

TEST_CASE("output qualities are those that the interpreter finds, layer by layer") {
  for (const char* scheme : {"w8a8", "w4a4", "w2ba16"}) {
    CAPTURE(std::string(scheme));
    ir::Module module = make_test_model();
    PassContext context = context_for(scheme);
    context.calibration_windows = make_windows(10, 12);
    REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, context).ok());
    ir::Region& block = region_named(module, "layers.0");
    const auto run = [&](const std::unique_ptr<Pass>& pass) {
      REQUIRE(dynamic_cast<BlockPass&>(*pass).run(module, block, context).ok());
    };
    run(create_calibrate());
    run(create_quantize());
    REQUIRE(context.quality_inputs.size() == kQualityWindows);
    const std::map<std::string, quant::Distortion> expected = distortions(module, block, context);
    run(create_measure_outputs());
    REQUIRE(expected.size() == context.report.layers.size());
    for (const quant::LayerReport& row : context.report.layers) {
      CAPTURE(row.name);
      REQUIRE(row.output.has_value());
      // Errors of rounding sums in float32 are next to nothing beside those of 8-bit codes.
      const quant::Distortion& distortion = expected.at(row.name);
      CHECK(row.output->sqnr_db == doctest::Approx(distortion.sqnr_db()).epsilon(1e-3));
      CHECK(row.output->cosine == doctest::Approx(distortion.cosine()).epsilon(1e-5));
      CHECK(row.output->max_error == doctest::Approx(distortion.max_error()).epsilon(1e-2));
    }
  }
}

TEST_CASE("every quantized layer gets an output quality, better with more bits") {
  PassContext fine = measure("w8a8");
  PassContext coarse = measure("w4a4");
  for (const quant::LayerReport& row : fine.report.layers) {
    CAPTURE(row.name);
    const quant::LayerReport* other = coarse.find_layer_report(row.name);
    REQUIRE(row.output.has_value());
    REQUIRE(other->output.has_value());
    CHECK(row.output->sqnr_db > 30);
    CHECK(other->output->sqnr_db > 5);
    CHECK(other->output->sqnr_db < row.output->sqnr_db - 15);
    CHECK(row.output->cosine > 0.999);
    CHECK(row.outlier_ratio > 1);
  }
  CHECK(!fine.float_block.has_value());
}

TEST_CASE("weight-only layers are measured on float inputs") {
  PassContext context = measure("w8a16");
  for (const quant::LayerReport& row : context.report.layers) {
    REQUIRE(row.output.has_value());
    // Errors of the weights alone: the output follows them closely.
    CHECK(row.output->sqnr_db == doctest::Approx(row.weight.sqnr_db).epsilon(0.1));
  }
}

TEST_CASE("layers that stay float have an outlier ratio but no output quality") {
  PassContext context = measure("w16a16");
  for (const quant::LayerReport& row : context.report.layers) {
    CHECK(!row.output.has_value());
    CHECK(row.outlier_ratio > 1);
  }
}

TEST_CASE("without calibration nothing is measured") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w8a8");
  REQUIRE(
      run_passes({"assign-schemes", "balance-bits", "quantize", "measure-outputs"}, module, context)
          .ok());
  CHECK(!context.report.layers[0].output.has_value());
}

}  // namespace abq::passes::testing
