#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "passes/layers.h"
#include "test_model.h"

namespace abq::passes::testing {
namespace {

constexpr int64_t kTokens = 24;

PassContext context_with_windows(const std::string& scheme) {
  PassContext context = context_for(scheme);
  context.calibration_windows = make_windows(6, kTokens);
  context.recipe.method = "best";
  context.recipe.distillation = {.epochs = 8, .batch = 2, .step_rate = 2e-2, .norm_rate = 2e-2};
  return context;
}

const std::vector<std::string> kRounds = {"assign-schemes", "balance-bits",     "calibrate",
                                          "gptq",           "replay-quantized", "distill",
                                          "calibrate",      "quantize",         "measure-outputs"};

std::vector<double> log_softmax(std::span<const float> logits) {
  double sum = 0;
  for (const float logit : logits)
    sum += std::exp(static_cast<double>(logit));
  std::vector<double> result;
  for (const float logit : logits)
    result.push_back(static_cast<double>(logit) - std::log(sum));
  return result;
}

// Mean over all windows of KL(float || quantized), by the interpreter.
double divergence(const ir::Module& original, const ir::Module& quantized,
                  const PassContext& context) {
  const ir::Interpreter interpreter;
  double sum = 0;
  int64_t rows = 0;
  for (const std::vector<int32_t>& window : context.calibration_windows) {
    const ir::Matrix expected = *interpreter.logits(original, window);
    const ir::Matrix got = *interpreter.logits(quantized, window);
    for (int64_t r = 0; r < expected.rows; ++r, ++rows) {
      const auto row = [&](const ir::Matrix& m) {
        return log_softmax(std::span(m.data).subspan(static_cast<size_t>(r * m.cols),
                                                     static_cast<size_t>(m.cols)));
      };
      const std::vector<double> p = row(expected), q = row(got);
      for (size_t i = 0; i < p.size(); ++i)
        sum += std::exp(p[i]) * (p[i] - q[i]);
    }
  }
  return sum / static_cast<double>(rows);
}

}  // namespace

TEST_CASE("distillation lowers the divergence of the model that is stored, as it reports") {
  for (const char* scheme : {"w2ba8", "w3a16", "w4a8-g32", "w1a8"}) {
    CAPTURE(std::string(scheme));
    const ir::Module original = make_test_model();
    ir::Module module = original;
    PassContext context = context_with_windows(scheme);
    REQUIRE(run_passes(kRounds, module, context).ok());
    REQUIRE(context.report.distillation.has_value());
    const quant::DistillationReport& report = *context.report.distillation;
    CHECK(report.kept);
    CHECK(report.epochs.size() == 8);
    CHECK(report.after < 0.97 * report.before);
    // The interpreter multiplies integers where the pass multiplies floats: a value near a tie of
    // the activation quantizer may fall to the other side.
    CHECK(divergence(original, module, context) == doctest::Approx(report.after).epsilon(0.01));
    for (const quant::LayerReport& layer : context.report.layers)
      CHECK(layer.output.has_value());
  }
}

TEST_CASE("distillation moves scales and norms and leaves every code") {
  const auto run = [](bool distilled) {
    ir::Module module = make_test_model();
    PassContext context = context_with_windows("w3a8");
    std::vector<std::string> names = kRounds;
    if (!distilled) std::erase(names, "distill");
    if (!distilled) names.erase(std::find(names.begin(), names.end(), "replay-quantized") + 1);
    REQUIRE(run_passes(names, module, context).ok());
    return module;
  };
  const ir::Module distilled = run(true);
  const ir::Module plain = run(false);
  const auto same = [&](const std::string& tensor) {
    const auto a = distilled.tensors.at(tensor).data.bytes();
    const auto b = plain.tensors.at(tensor).data.bytes();
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  };
  const std::string up = "model.layers.1.up_proj.weight";
  CHECK(same(up + ".codes"));
  CHECK(same(up + ".zeros"));
  CHECK_FALSE(same(up + ".scales"));
  const auto is_f32 = [&](const ir::Module& module, const std::string& tensor) {
    return module.tensors.at(tensor).type.element == ir::ElementType::kF32;
  };
  const std::string norm = "model.norm.weight";
  CHECK(is_f32(distilled, norm));
  CHECK_FALSE(same(norm));
}

TEST_CASE("distillation that does no good changes nothing and says so") {
  const auto run = [](double rate) {
    ir::Module module = make_test_model();
    PassContext context = context_with_windows("w4a8");
    context.recipe.distillation = {.epochs = 1, .batch = 6, .step_rate = rate, .norm_rate = rate};
    REQUIRE(run_passes(kRounds, module, context).ok());
    return std::pair(std::move(module), *context.report.distillation);
  };
  const auto [wild, report] = run(5.0);
  CHECK_FALSE(report.kept);
  CHECK_FALSE(report.after < report.before);
  CHECK(wild.tensors.at("model.norm.weight").type.element ==
        make_test_model().tensors.at("model.norm.weight").type.element);
}

TEST_CASE("distillation stands between rounds of block passes, behind a float run of all windows") {
  ir::Module module = make_test_model();
  PassContext context = context_with_windows("w4a8");
  CHECK(run_passes({"assign-schemes", "balance-bits", "distill", "quantize"}, module, context)
            .message() == "pass distill: needs passes on single blocks before and after it");
  context = context_with_windows("w4a8");
  context.float_windows = 2;
  const Status status = run_passes(kRounds, module, context);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().starts_with("pass distill: distill needs the float model's outputs"));
}

}  // namespace abq::passes::testing
