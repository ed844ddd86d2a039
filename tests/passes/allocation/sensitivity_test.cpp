#include "passes/allocation/sensitivity.h"

#include <doctest/doctest.h>

#include "passes/allocation/float_model.h"
#include "quant/divergence.h"
#include "support/parallel.h"
#include "tests/passes/test_model.h"

namespace abq::passes {
namespace {

using testing::context_for;
using testing::make_test_model;
using testing::make_windows;
using testing::run_passes;

constexpr int64_t kTokens = 24;

quant::WeightSpec spec(const std::string& scheme) {
  return quant::parse_scheme(scheme)->weights;
}

// A context as measure_sensitivity wants it, and the module with its attention widths.
PassContext prepared_context(const std::string& scheme, const std::string& method,
                             ir::Module& module) {
  PassContext context = context_for(scheme);
  context.recipe.method = method;
  context.calibration_windows = make_windows(4, kTokens);
  REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, context).ok());
  return context;
}

// KL of the whole module against `original`, on the first two windows, by the interpreter.
double model_kl(const ir::Module& original, const ir::Module& changed, const PassContext& context) {
  quant::Divergence total;
  for (size_t w = 0; w < 2; ++w) {
    const auto& tokens = context.calibration_windows[w];
    const auto a = ir::Interpreter().logits(original, tokens);
    const auto b = ir::Interpreter().logits(changed, tokens);
    REQUIRE(a.ok());
    REQUIRE(b.ok());
    total.add(quant::compare_logits(a->view(), b->view()));
  }
  return total.mean_kl();
}

}  // namespace

TEST_CASE("a unit's KL at the reference is that of the model with this unit rounded") {
  ir::Module module = make_test_model();
  PassContext context = prepared_context("w4a16", "rtn", module);
  const std::vector<SensitivityUnit> units = {
      {{"layers.0.mlp.gate", "layers.0.mlp.up"}, {spec("w3a16")}},
      {{"layers.1.attn.o"}, {spec("w2a16"), spec("w3a16"), spec("w8a16")}}};
  const auto measured = measure_sensitivity(module, context, units, 2);
  REQUIRE_MESSAGE(measured.ok(), measured.status().to_string());
  CHECK(measured->tokens == 2 * kTokens);
  CHECK(measured->activation_kl == doctest::Approx(0).epsilon(1e-6));

  const std::vector<std::vector<std::string>> names = {{"layers.0.mlp.gate", "layers.0.mlp.up"},
                                                       {"layers.1.attn.o"}};
  for (size_t i = 0; i < names.size(); ++i) {
    CAPTURE(i);
    ir::Module rounded = make_test_model();
    PassContext rounding = context_for("w16a16");
    for (const std::string& name : names[i])
      rounding.recipe.overrides.push_back({name, *quant::parse_scheme("w3a16")});
    REQUIRE(run_passes({"assign-schemes", "balance-bits", "quantize"}, rounded, rounding).ok());
    const double expected = model_kl(make_test_model(), rounded, context);
    CHECK(expected > 1e-5);
    CHECK(measured->kl[i][reference_spec(units[i].specs)] ==
          doctest::Approx(expected).epsilon(1e-3));
  }
  CHECK(measured->kl[1][0] > 2 * measured->kl[1][1]);
  CHECK(measured->kl[1][2] < 0.01 * measured->kl[1][1]);
}

TEST_CASE("quantized activations are measured by themselves") {
  ir::Module module = make_test_model();
  PassContext context = prepared_context("w4a4-kv4-q4", "rtn", module);
  const std::vector<SensitivityUnit> units = {{{"layers.0.attn.o"}, {spec("w3a4")}}};
  const auto measured = measure_sensitivity(module, context, units, 2);
  REQUIRE_MESSAGE(measured.ok(), measured.status().to_string());
  CHECK(measured->activation_kl > 1e-4);
}

TEST_CASE("compensated rounding costs less than rounding to nearest") {
  const auto total = [](const std::string& method) {
    ir::Module module = make_test_model();
    PassContext context = prepared_context("w3a8", method, module);
    context.calibration_windows = make_windows(24, 64);
    std::vector<SensitivityUnit> units;
    for (const char* layer : {"attn.q", "attn.o", "mlp.up", "mlp.down"})
      units.push_back({{std::string("layers.0.") + layer}, {spec("w3a8")}});
    const auto measured = measure_sensitivity(module, context, units, 4);
    REQUIRE_MESSAGE(measured.ok(), measured.status().to_string());
    double sum = 0;
    for (const std::vector<double>& kl : measured->kl)
      sum += kl[0];
    return sum;
  };
  CHECK(total("gptq") < total("rtn"));
}

TEST_CASE("a rotated model is measured rotated, and the module stays as it was") {
  ir::Module module = make_test_model();
  PassContext context = prepared_context("w3a8-kv8", "gptq", module);
  const std::vector<SensitivityUnit> units = {{{"layers.1.mlp.down"}, {spec("w3a8")}}};
  const auto plain = measure_sensitivity(module, context, units, 2);
  context.recipe.rotation.emplace();
  const auto rotated = measure_sensitivity(module, context, units, 2);
  REQUIRE_MESSAGE(plain.ok(), plain.status().to_string());
  REQUIRE_MESSAGE(rotated.ok(), rotated.status().to_string());
  CHECK(rotated->kl[0][0] != plain->kl[0][0]);
  CHECK(rotated->kl[0][0] > 0);
  CHECK(rotated->kl[0][0] < 4 * plain->kl[0][0]);
  const auto again = measure_sensitivity(module, context, units, 2);
  CHECK(again->kl == rotated->kl);
}

TEST_CASE("sensitivities do not depend on the number of threads, and hardly on bf16 streams") {
  const auto measure = [](int threads, StreamOptions::Precision precision) {
    set_num_threads(threads);
    ir::Module module = make_test_model();
    PassContext context = prepared_context("w3a8", "gptq", module);
    context.stream_options.precision = precision;
    const std::vector<SensitivityUnit> units = {{{"layers.0.attn.v"}, {spec("w2a8"), spec("w3a8")}},
                                                {{"layers.1.mlp.up"}, {spec("w2ba8")}}};
    const auto measured = measure_sensitivity(module, context, units, 2);
    set_num_threads(0);
    REQUIRE_MESSAGE(measured.ok(), measured.status().to_string());
    return *measured;
  };
  using Precision = StreamOptions::Precision;
  const Sensitivity one = measure(1, Precision::kFloat32);
  const Sensitivity three = measure(3, Precision::kFloat32);
  CHECK(one.kl == three.kl);
  CHECK(one.activation_kl == three.activation_kl);
  CHECK(measure(1, Precision::kBFloat16).kl[1][0] == doctest::Approx(one.kl[1][0]).epsilon(0.2));
}

TEST_CASE("a unit without its layer and a measurement without text are refused") {
  ir::Module module = make_test_model();
  PassContext context = prepared_context("w3a8", "gptq", module);
  const std::vector<SensitivityUnit> absent = {{{"layers.7.attn.q"}, {spec("w3a8")}}};
  const auto refused = measure_sensitivity(module, context, absent, 2);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().message() == "layers.7.attn.q: no such block linear");
  context.calibration_windows.clear();
  CHECK(measure_sensitivity(module, context, {}, 1).status().message() ==
        "sensitivity needs calibration text; give --calib FILE");
}

TEST_CASE("the reference is the width nearest to 3 bits") {
  const std::vector<quant::WeightSpec> all = {spec("w2a8"), spec("w2ba8"), spec("w3a8"),
                                              spec("w4a8")};
  CHECK(reference_spec(all) == 2);
  CHECK(reference_spec(std::span(all).first(2)) == 1);
  const std::vector<quant::WeightSpec> wide = {spec("w8a8"), spec("w5a8")};
  CHECK(reference_spec(wide) == 1);
}

TEST_CASE("the float model's logits are the interpreter's") {
  const ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  context.calibration_windows = make_windows(2, kTokens);
  auto model = FloatModel::run(module, context);
  REQUIRE_MESSAGE(model.ok(), model.status().to_string());
  std::vector<float> logits;
  REQUIRE(model->logits(1, 8, 10, logits).ok());
  const auto expected = ir::Interpreter().logits(module, context.calibration_windows[1]);
  REQUIRE(expected.ok());
  REQUIRE(logits.size() == static_cast<size_t>(10 * testing::kVocab));
  for (size_t i = 0; i < logits.size(); ++i)
    CHECK(logits[i] == doctest::Approx(expected->data[i + static_cast<size_t>(8 * testing::kVocab)])
                           .epsilon(1e-4));
}

}  // namespace abq::passes
