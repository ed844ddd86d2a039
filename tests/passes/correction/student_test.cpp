#include "passes/correction/student.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "passes/correction/losses.h"
#include "support/random.h"
#include "tests/passes/test_model.h"

namespace abq::passes::testing {
namespace {

using compute::Tensor;

// The first block of the test model after calibration, and a student on it.
struct Fixture {
  ir::Module module = make_test_model();
  PassContext context;
  std::unique_ptr<compute::TensorDevice> device = compute::create_cpu_tensor_device();
  std::optional<autodiff::BlockEvaluator> evaluator;
  std::optional<Student> student;
  std::vector<ScaleSite> sites;

  Fixture(const std::string& scheme, const StudentOptions& options) : context(context_for(scheme)) {
    context.calibration_windows = make_windows(3, 12);
    REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, context).ok());
    const std::unique_ptr<Pass> calibrate = create_pass("calibrate").value();
    REQUIRE(dynamic_cast<BlockPass&>(*calibrate).run(module, block(), context).ok());
    evaluator = *autodiff::BlockEvaluator::create(*device, module, block());
    sites = *find_scale_sites(module, block(), context.input_statistics, 0.5);
    student.emplace(*Student::create(*evaluator, module, context.layer_schemes, sites, options));
  }

  ir::Region& block() { return region_named(module, "layers.0"); }

  // Every parameter of a kind moved by factors between 1 / 2 and 2.
  void disturb(LearnedParameter::Kind kind) {
    Random random(11);
    std::vector<LearnedTensor> tensors = *student->get();
    for (size_t i = 0; i < tensors.size(); ++i)
      if (student->parameters()[i].kind == kind)
        for (float& value : tensors[i].values) {
          value *= static_cast<float>(std::exp2(2 * random.uniform() - 1));
          // Scales may turn round, or come close to 0, where they are held away from it.
          if (kind == LearnedParameter::Kind::kScale && random.uniform() < 0.1) value = -value;
          if (kind == LearnedParameter::Kind::kScale && random.uniform() < 0.05) value *= 1e-3f;
        }
    REQUIRE(student->set(tensors).ok());
  }

  ir::Matrix run(const std::vector<float>& hidden) {
    autodiff::Tape tape(*device);
    const auto rows = static_cast<int64_t>(hidden.size()) / kHidden;
    const Student::Pass pass = student->run(tape, device->upload(hidden, rows, kHidden), 12, false);
    ir::Matrix y = ir::make_matrix(rows, kHidden);
    device->download(pass.output.hidden->value, y.data);
    return y;
  }
};

std::vector<float> random_hidden(int64_t tokens) {
  Random random(21);
  std::vector<float> values(static_cast<size_t>(tokens * kHidden));
  for (float& value : values)
    value = static_cast<float>(random.normal());
  return values;
}

ir::Matrix interpreted(const ir::Module& module, const std::vector<float>& hidden) {
  return *ir::Interpreter().run(module, region_named(module, "layers.0"),
                                {static_cast<int64_t>(hidden.size()) / kHidden, kHidden, hidden});
}

}  // namespace

TEST_CASE("whatever the channel scales, a student without quantization is the float block") {
  Fixture f("w16a16", {});
  f.disturb(LearnedParameter::Kind::kScale);
  const std::vector<float> hidden = random_hidden(12);
  CHECK(relative_difference(f.run(hidden), interpreted(make_test_model(), hidden)) < 1e-4);
}

TEST_CASE("folded scales leave the float function as it was, rotary pairs and shared heads too") {
  Fixture f("w16a16", {});
  f.disturb(LearnedParameter::Kind::kScale);
  REQUIRE(f.student->fold(f.module, f.block(), f.context).ok());
  const std::vector<float> hidden = random_hidden(12);
  CHECK(relative_difference(interpreted(f.module, hidden), interpreted(make_test_model(), hidden)) <
        2e-5);
  const std::string q = "model.layers.0.q_proj.weight";
  CHECK(*ir::to_float(f.module.tensors.at(q)) != *ir::to_float(make_test_model().tensors.at(q)));
}

TEST_CASE("what the student learned with is what quantize deploys") {
  for (const char* scheme : {"w4a4-kv4-q4", "w2ba8", "w3a8-g32-sym", "w1a8"}) {
    CAPTURE(std::string(scheme));
    Fixture f(scheme, {.compensation = true, .clip_start = quant::ClipStart::kSearch});
    f.disturb(LearnedParameter::Kind::kScale);
    f.disturb(LearnedParameter::Kind::kClip);
    std::vector<LearnedTensor> tensors = *f.student->get();
    for (LearnedTensor& tensor : tensors)
      if (tensor.name == "compensation_a layers.0.mlp.down")
        for (size_t i = 0; i < tensor.values.size(); ++i)
          tensor.values[i] = 0.01f * static_cast<float>(i % 7);
    REQUIRE(f.student->set(tensors).ok());
    const std::vector<float> hidden = random_hidden(12);
    const ir::Matrix learned = f.run(hidden);

    REQUIRE(f.student->fold(f.module, f.block(), f.context).ok());
    const std::unique_ptr<Pass> quantize = create_pass("quantize").value();
    REQUIRE(dynamic_cast<BlockPass&>(*quantize).run(f.module, f.block(), f.context).ok());
    const autodiff::BlockEvaluator deployed =
        *autodiff::BlockEvaluator::create(*f.device, f.module, f.block());
    autodiff::Tape tape(*f.device);
    autodiff::BlockRun run;
    run.context = 12;
    run.quantize_attention = true;
    ir::Matrix y = ir::make_matrix(12, kHidden);
    f.device->download(
        deployed.run(tape, tape.constant(f.device->upload(hidden, 12, kHidden)), run).hidden->value,
        y.data);
    if (std::string(scheme) == "w1a8") {
      CHECK(relative_difference(y, learned) < 1e-5);  // a binary scale is a mean
    } else {
      CHECK(y.data == learned.data);
    }
  }
}

TEST_CASE("clip factors of different ends move the loss the way their gradient says") {
  Fixture f("w3a16", {.clip_start = quant::ClipStart::kSearch});
  const Tensor x = f.device->upload(random_hidden(12), 12, kHidden);
  const Tensor target =
      f.device->upload(interpreted(make_test_model(), random_hidden(12)).data, 12, kHidden);
  quant::CorrectionSettings settings;
  settings.akl_float = settings.akl_quantized = 0;
  settings.dlc_float = settings.dlc_quantized = 0;
  settings.mse_float = 1;
  const auto loss_now = [&](bool learning, std::vector<autodiff::Var>* bound) {
    autodiff::Tape tape(*f.device);
    Student::Pass pass = f.student->run(tape, x, 12, learning);
    const Losses losses = correction_losses(tape, settings, pass.output, {target, target, {}, {}});
    if (learning) tape.backward(losses.total);
    if (bound != nullptr) *bound = pass.bound;
    float value = 0;
    f.device->download(losses.total->value, std::span(&value, 1));
    return value;
  };
  std::vector<autodiff::Var> bound;
  const float before = loss_now(true, &bound);
  // A step against the gradient of the clip factors alone must help.
  for (size_t i = 0; i < bound.size(); ++i)
    if (f.student->parameters()[i].kind == LearnedParameter::Kind::kClip &&
        !bound[i]->gradient.empty())
      f.device->accumulate(f.student->parameters()[i].value, bound[i]->gradient, -20.0f);
  CHECK(loss_now(false, nullptr) < before);
}

TEST_CASE("parameters: five sites, two clips a linear, compensation only where asked") {
  const auto count = [](const Fixture& f, LearnedParameter::Kind kind) {
    return std::count_if(f.student->parameters().begin(), f.student->parameters().end(),
                         [&](const LearnedParameter& p) { return p.kind == kind; });
  };
  const Fixture all("w4a4", {.compensation = true});
  CHECK(count(all, LearnedParameter::Kind::kScale) == 5);
  CHECK(count(all, LearnedParameter::Kind::kClip) == 14);
  CHECK(count(all, LearnedParameter::Kind::kCompensation) == 2);
  const Fixture none("w4a4", {.scales = false, .clips = false});
  CHECK(none.student->parameters().empty());
  const Fixture binary("w1a8", {});
  CHECK(count(binary, LearnedParameter::Kind::kClip) == 0);
}

TEST_CASE(
    "clip factors that are not learned stay full ranges, or what clip search finds, to the bit") {
  const auto clips = [](quant::ClipStart start) {
    Fixture f("w4a8-g32", {.scales = false, .clips = false, .clip_start = start});
    REQUIRE(f.student->fold(f.module, f.block(), f.context).ok());
    return f.context.layer_clips.at("layers.0.mlp.up");
  };
  const ir::Module model = make_test_model();
  const std::vector<float> w = *ir::to_float(model.tensors.at("model.layers.0.up_proj.weight"));
  const std::vector<quant::ClipRatio> expected =
      quant::search_clips({w.data(), kFfn, kHidden}, quant::parse_scheme("w4a8-g32")->weights);
  const std::vector<quant::ClipRatio> wide = clips(quant::ClipStart::kWide);
  const std::vector<quant::ClipRatio> searched = clips(quant::ClipStart::kSearch);
  REQUIRE(wide.size() == expected.size());
  REQUIRE(searched.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(wide[i].low == 1.0f);
    CHECK(wide[i].high == 1.0f);
    CHECK(searched[i].low == expected[i].low);
    CHECK(searched[i].high == expected[i].high);
  }
}

TEST_CASE("a learned state of another shape or name is refused with both") {
  Fixture f("w4a4", {});
  std::vector<LearnedTensor> tensors = *f.student->get();
  tensors[0].name = "scale elsewhere";
  CHECK(f.student->set(tensors).message() ==
        "learned state: has scale elsewhere [1, 64], expected scale layers.0.attn_norm -> q, k, v "
        "[1, 64]");
  tensors.pop_back();
  CHECK(f.student->set(tensors).message() == "learned state: has 18 tensors, expected 19");
}

}  // namespace abq::passes::testing
