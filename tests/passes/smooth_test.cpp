#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "test_model.h"

namespace abq::passes::testing {
namespace {

std::vector<float> weights_of(const ir::Module& module, const std::string& tensor) {
  return *ir::to_float(module.tensors.at("model." + tensor + ".weight"));
}

float column_max(const std::vector<float>& weights, size_t k, size_t column) {
  float largest = 0;
  for (size_t i = column; i < weights.size(); i += k)
    largest = std::max(largest, std::fabs(weights[i]));
  return largest;
}

struct Smoothed {
  ir::Module before = make_test_model();
  ir::Module after = make_test_model();
  PassContext context = context_for("w8a8");

  Smoothed() {
    context.calibration_windows = make_windows(4, 16);
    REQUIRE(run_passes({"calibrate", "smooth"}, after, context).ok());
  }
};

}  // namespace

TEST_CASE("smooth leaves the float function as it was") {
  const Smoothed model;
  const ir::Interpreter interpreter;
  const std::vector<int32_t> tokens = make_windows(1, 20, 99)[0];
  const ir::Matrix before = *interpreter.logits(model.before, tokens);
  const ir::Matrix after = *interpreter.logits(model.after, tokens);
  CHECK(relative_difference(after, before) < 1e-5);
}

TEST_CASE("smooth changes every weight of a block but q's and k's rows, to f32") {
  const Smoothed model;
  for (const char* name : {"input_layernorm", "q_proj", "k_proj", "v_proj", "o_proj",
                           "post_attention_layernorm", "gate_proj", "up_proj", "down_proj"}) {
    CAPTURE(name);
    const std::string tensor = std::string("layers.1.") + name;
    CHECK(model.after.tensors.at("model." + tensor + ".weight").type.element ==
          ir::ElementType::kF32);
    CHECK(weights_of(model.after, tensor) != weights_of(model.before, tensor));
  }
  CHECK(weights_of(model.after, "embed_tokens") == weights_of(model.before, "embed_tokens"));
}

TEST_CASE("the scale of up -> down is sqrt of the input maximum over the column maximum") {
  const Smoothed model;
  float largest = 0;
  ir::Interpreter interpreter;
  interpreter.observe_inputs([&](const ir::Node& node, const ir::Matrix& x) {
    if (node.name != "layers.0.mlp.down") return;
    for (int64_t r = 0; r < x.rows; ++r)
      largest = std::max(largest, std::fabs(x.data[static_cast<size_t>(r * x.cols + 3)]));
  });
  for (const std::vector<int32_t>& window : model.context.calibration_windows)
    REQUIRE(interpreter.logits(model.before, window).ok());
  const std::vector<float> before = weights_of(model.before, "layers.0.down_proj");
  const std::vector<float> after = weights_of(model.after, "layers.0.down_proj");
  const float expected = std::sqrt(largest / column_max(before, kFfn, 3));
  CHECK(after[3] / before[3] == doctest::Approx(expected).epsilon(1e-4));
  const std::vector<float> up_before = weights_of(model.before, "layers.0.up_proj");
  const std::vector<float> up_after = weights_of(model.after, "layers.0.up_proj");
  // up's first column is multiplied by the norm's scale besides.
  const float norm_scale = weights_of(model.before, "layers.0.post_attention_layernorm")[0] /
                           weights_of(model.after, "layers.0.post_attention_layernorm")[0];
  CHECK(up_before[3 * kHidden] * norm_scale / up_after[3 * kHidden] ==
        doctest::Approx(expected).epsilon(1e-4));
}

TEST_CASE("under grouped queries the heads of a group share their kv channel's scale") {
  const Smoothed model;
  const std::vector<float> before = weights_of(model.before, "layers.0.o_proj");
  const std::vector<float> after = weights_of(model.after, "layers.0.o_proj");
  const std::vector<float> v_before = weights_of(model.before, "layers.0.v_proj");
  const std::vector<float> v_after = weights_of(model.after, "layers.0.v_proj");
  const std::vector<float> norm_before = weights_of(model.before, "layers.0.input_layernorm");
  const std::vector<float> norm_after = weights_of(model.after, "layers.0.input_layernorm");
  const auto output_scale = [&](size_t head, size_t d) {
    const size_t column = head * kHeadDim + d;
    return after[column] / before[column];
  };
  for (size_t d = 0; d < static_cast<size_t>(kHeadDim); ++d) {
    CHECK(output_scale(0, d) == doctest::Approx(output_scale(1, d)).epsilon(1e-5));
    CHECK(output_scale(2, d) == doctest::Approx(output_scale(3, d)).epsilon(1e-5));
    // v's row of kv head 1 is divided by it, its first column multiplied by the norm's scale.
    const size_t row = (kHeadDim + d) * kHidden;
    const float norm_scale = norm_before[0] / norm_after[0];
    CHECK(v_before[row] * norm_scale / v_after[row] ==
          doctest::Approx(output_scale(2, d)).epsilon(1e-4));
  }
  CHECK(output_scale(0, 0) != doctest::Approx(output_scale(2, 0)).epsilon(1e-3));
}

TEST_CASE("smooth needs calibration and an alpha between 0 and 1") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w8a8");
  CHECK(run_passes({"smooth"}, module, context).message() ==
        "pass smooth on layers.0: smooth needs calibration text; give --calib FILE");
  context.calibration_windows = make_windows(2, 8);
  CHECK(run_passes({"smooth"}, module, context)
            .message()
            .find("no input statistics; run calibrate first") != std::string::npos);
  context.recipe.smooth_alpha = 1.5;
  CHECK(run_passes({"calibrate", "smooth"}, module, context)
            .message()
            .find("smooth alpha: expected 0 to 1, got 1.5") != std::string::npos);
}

}  // namespace abq::passes::testing
