#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/passes.h"
#include "test_model.h"

namespace abq::passes::testing {
namespace {

// Runs calibrate on one block, without the manager, which would forget the block's statistics.
Status calibrate(ir::Module& module, const std::string& block, PassContext& context) {
  const std::unique_ptr<Pass> pass = create_calibrate();
  return dynamic_cast<BlockPass&>(*pass).run(module, region_named(module, block), context);
}

}  // namespace

TEST_CASE("calibrate advances the float stream block by block as the interpreter would") {
  ir::Module module = make_test_model();
  PassContext context;
  context.calibration_windows = make_windows(3, 12);
  REQUIRE(calibrate(module, "layers.0", context).ok());
  context.finish_block();
  REQUIRE(calibrate(module, "layers.1", context).ok());
  CHECK(context.report.calibration_tokens == 36);

  const ir::Interpreter interpreter;
  for (size_t w = 0; w < 3; ++w) {
    ir::Matrix x = *interpreter.embed(module, context.calibration_windows[w]);
    x = *interpreter.run(module, region_named(module, "layers.0"), x);
    CHECK(relative_difference(context.quality_inputs[w], x) < 1e-5);
    x = *interpreter.run(module, region_named(module, "layers.1"), x);
    ir::Matrix output = ir::make_matrix(x.rows, x.cols);
    REQUIRE(context.float_outputs.read(static_cast<int64_t>(w), 1, output.data).ok());
    CHECK(relative_difference(output, x) < 1e-5);
  }
}

TEST_CASE("statistics are those of each linear's own input") {
  ir::Module module = make_test_model();
  PassContext context;
  context.calibration_windows = make_windows(2, 9);
  REQUIRE(calibrate(module, "layers.0", context).ok());
  CHECK(context.input_statistics.size() == 7);

  std::vector<float> largest(static_cast<size_t>(kFfn), 0.0f);
  ir::Interpreter interpreter;
  interpreter.observe_inputs([&](const ir::Node& node, const ir::Matrix& x) {
    if (node.name != "layers.0.mlp.down") return;
    for (size_t i = 0; i < x.data.size(); ++i) {
      float& value = largest[i % largest.size()];
      value = std::max(value, std::fabs(x.data[i]));
    }
  });
  for (const std::vector<int32_t>& window : context.calibration_windows)
    REQUIRE(interpreter
                .run(module, region_named(module, "layers.0"), *interpreter.embed(module, window))
                .ok());
  const std::vector<float>& seen = context.input_statistics.at("layers.0.mlp.down").max_abs;
  REQUIRE(seen.size() == largest.size());
  for (size_t c = 0; c < seen.size(); ++c)
    CHECK(seen[c] == doctest::Approx(largest[c]).epsilon(1e-5));
  CHECK(context.input_statistics.at("layers.0.mlp.down").tokens == 18);
  CHECK(context.input_statistics.at("layers.0.attn.q").max_abs ==
        context.input_statistics.at("layers.0.attn.v").max_abs);
  CHECK(context.input_statistics.at("layers.0.attn.q").max_abs !=
        context.input_statistics.at("layers.0.mlp.up").max_abs);
}

TEST_CASE("activations that are not finite are refused with layer and channel") {
  ir::Module module = make_test_model();
  std::vector<float> weights(static_cast<size_t>(kHidden), 1.0f);
  weights[5] = std::numeric_limits<float>::max();
  module.tensors["model.layers.0.input_layernorm.weight"] = ir::make_f32_tensor({kHidden}, weights);
  ir::Region& block = region_named(module, "layers.0");
  block.values[static_cast<size_t>(node_named(block, "layers.0.attn_norm").operands[1])].type =
      ir::Type{ir::ElementType::kF32, 0, {kHidden}};
  PassContext context;
  context.calibration_windows = make_windows(2, 9);
  const Status status = calibrate(module, "layers.0", context);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() == "layers.0.attn.q: channel 5 has NaN, Inf or squares beyond float32");
}

TEST_CASE("calibrate without windows is refused with what to give") {
  ir::Module module = make_test_model();
  PassContext context;
  CHECK(calibrate(module, "layers.0", context).message() ==
        "calibrate needs calibration text; give --calib FILE");
}

}  // namespace abq::passes::testing
