#include "passes/correction/rounding_student.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "passes/layers.h"
#include "passes/passes.h"
#include "support/random.h"
#include "tests/passes/test_model.h"

namespace abq::passes::testing {
namespace {

constexpr int64_t kTokens = 12;

// The first block of the test model behind gptq, and a student on its codes.
struct Fixture {
  ir::Module module = make_test_model();
  PassContext context;
  std::shared_ptr<compute::TensorDevice> device = compute::create_cpu_tensor_device();
  std::optional<autodiff::BlockEvaluator> evaluator;
  std::optional<RoundingStudent> student;

  explicit Fixture(const std::string& scheme, const RoundingStudent::Options& options = {},
                   std::vector<quant::LayerOverride> overrides = {})
      : context(context_for(scheme)) {
    context.recipe.overrides = std::move(overrides);
    context.tensor_device = device;
    context.calibration_windows = make_windows(3, kTokens);
    REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, context).ok());
    REQUIRE(dynamic_cast<BlockPass&>(*create_calibrate()).run(module, block(), context).ok());
    REQUIRE(dynamic_cast<BlockPass&>(*create_gptq()).run(module, block(), context).ok());
    evaluator = *autodiff::BlockEvaluator::create(*device, module, block());
    student.emplace(*RoundingStudent::create(*evaluator, module, context, options));
  }

  ir::Region& block() { return region_named(module, "layers.0"); }

  // Offsets a whole code or more to both sides, steps by up to a half, norms by up to a quarter.
  void disturb() {
    Random random(11);
    std::vector<LearnedTensor> tensors = *student->get();
    for (size_t i = 0; i < tensors.size(); ++i) {
      const LearnedParameter::Kind kind = student->parameters()[i].kind;
      for (float& value : tensors[i].values) {
        const auto part = static_cast<float>(2 * random.uniform() - 1);
        if (kind == LearnedParameter::Kind::kCode) value += 3 * part;
        if (kind == LearnedParameter::Kind::kStep) value *= 1 + 0.5f * part;
        if (kind == LearnedParameter::Kind::kNorm) value *= 1 + 0.25f * part;
      }
    }
    REQUIRE(student->set(tensors).ok());
  }

  std::vector<float> input() const {
    std::vector<float> values(static_cast<size_t>(kTokens * kHidden));
    REQUIRE(context.float_stream.read(1, 1, values).ok());
    return values;
  }

  std::vector<float> student_output() const {
    autodiff::Tape tape(*device);
    const BlockLearner::Pass pass =
        student->run(tape, device->upload(input(), kTokens, kHidden), kTokens, false);
    std::vector<float> y(static_cast<size_t>(kTokens * kHidden));
    device->download(pass.output.hidden->value, y);
    return y;
  }

  // The block as `quantize` leaves it, on the same input.
  std::vector<float> quantized_output() {
    REQUIRE(dynamic_cast<BlockPass&>(*create_quantize()).run(module, block(), context).ok());
    const autodiff::BlockEvaluator quantized =
        *autodiff::BlockEvaluator::create(*device, module, block());
    autodiff::Tape tape(*device);
    autodiff::BlockRun run;
    run.context = kTokens;
    run.quantize_attention = true;
    const autodiff::BlockOutput output =
        quantized.run(tape, tape.constant(device->upload(input(), kTokens, kHidden)), run);
    std::vector<float> y(static_cast<size_t>(kTokens * kHidden));
    device->download(output.hidden->value, y);
    return y;
  }
};

const char* const kSchemes[] = {"w4a8", "w2ba4-kv4-q4", "w3a8-g32", "w2a16-sym", "w1a8"};

}  // namespace

TEST_CASE("a student of codes starts as the block that quantize makes of them, to the bit") {
  for (const char* scheme : kSchemes) {
    CAPTURE(std::string(scheme));
    Fixture f(scheme);
    const std::vector<float> start = f.student_output();
    CHECK(*f.student->changed_codes(f.context) == 0.0);
    CHECK(start == f.quantized_output());
  }
}

TEST_CASE("what a student of codes stores is what it multiplied with, to the bit") {
  for (const char* scheme : kSchemes) {
    CAPTURE(std::string(scheme));
    Fixture f(scheme);
    const std::vector<float> start = f.student_output();
    f.disturb();
    const std::vector<float> moved = f.student_output();
    CHECK(moved != start);
    const double changed = *f.student->changed_codes(f.context);
    CHECK(changed > 0.1);
    CHECK(changed < 1.0);
    REQUIRE(f.student->store(f.context).ok());
    CHECK(*f.student->changed_codes(f.context) == 0.0);
    CHECK(moved == f.quantized_output());
    CHECK(f.context.learned_norms.empty());  // taken by quantize
  }
}

TEST_CASE("learned codes stay within their width however far their offsets go") {
  Fixture f("w3a8");
  std::vector<LearnedTensor> tensors = *f.student->get();
  for (LearnedTensor& tensor : tensors)
    if (tensor.name.starts_with("offsets "))
      for (size_t i = 0; i < tensor.values.size(); ++i)
        tensor.values[i] = i % 2 == 0 ? 1e6f : -1e6f;
  REQUIRE(f.student->set(tensors).ok());
  REQUIRE(f.student->store(f.context).ok());
  for (const auto& [name, layer] : f.context.rounded_layers)
    for (size_t i = 0; i < layer.weights.codes.size(); ++i)
      CHECK(layer.weights.codes[i] == (i % 2 == 0 ? 7 : 0));
}

TEST_CASE("what is not asked for is no parameter, and a student of nothing is the codes") {
  const auto kinds = [](const RoundingStudent::Options& options) {
    Fixture f("w4a8", options);
    std::vector<LearnedParameter::Kind> found;
    for (const LearnedParameter& parameter : f.student->parameters())
      found.push_back(parameter.kind);
    return found;
  };
  using Kind = LearnedParameter::Kind;
  CHECK(kinds({.codes = false, .steps = false, .norms = false}).empty());
  CHECK(kinds({.codes = false, .steps = true, .norms = false}) ==
        std::vector<Kind>(7, Kind::kStep));
  CHECK(kinds({.codes = false, .steps = false, .norms = true}) ==
        std::vector<Kind>(2, Kind::kNorm));
  CHECK(std::ranges::count(kinds({}), Kind::kCode) == 7);
  Fixture fixed("w4a8", {.codes = false, .steps = false, .norms = false});
  Fixture all("w4a8");
  CHECK(fixed.student_output() == all.student_output());
}

TEST_CASE("layers that stay float keep their weights, and one without codes is refused") {
  const quant::LayerOverride floats = {"*.attn.*", *quant::parse_scheme("w16a16")};
  Fixture f("w4a8", {}, {floats});
  CHECK(f.student->parameters().size() == 3 * 2 + 2);  // gate, up, down; norms
  const std::vector<float> start = f.student_output();
  CHECK(start == f.quantized_output());

  Fixture missing("w4a8");
  missing.context.rounded_layers.erase("layers.0.mlp.up");
  const Result<RoundingStudent> refused =
      RoundingStudent::create(*missing.evaluator, missing.module, missing.context, {});
  CHECK(refused.status().code() == StatusCode::kInvalidArgument);
  CHECK(refused.status().message() == "layers.0.mlp.up has no codes; run gptq first");
}

TEST_CASE("an evaluator counts the memory of weights that a student let go of") {
  Fixture f("w4a8", {.codes = false});
  const int64_t bytes = f.evaluator->learning_bytes(2, kTokens);
  const std::vector<float> before = f.student_output();
  f.student->release_float_weights(*f.evaluator);
  CHECK(f.evaluator->learning_bytes(2, kTokens) == bytes);
  CHECK(f.student_output() == before);
}

TEST_CASE("a norm weight that two blocks share cannot be learned by either") {
  ir::Module module = make_test_model();
  ir::Region& second = region_named(module, "layers.1");
  for (ir::Node& node : second.nodes)
    if (node.op == ir::Op::kWeight &&
        node.string_attribute("tensor") == "model.layers.1.input_layernorm.weight")
      node.attributes["tensor"] = std::string("model.layers.0.input_layernorm.weight");
  PassContext context = context_for("w4a8");
  context.calibration_windows = make_windows(3, kTokens);
  const Status status = run_passes(
      {"assign-schemes", "balance-bits", "calibrate", "gptq", "learn-rounding"}, module, context);
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(status.message().find("has readers in other blocks") != std::string::npos);
}

TEST_CASE("a scale that learning made negative or not finite is not stored") {
  for (const float ratio : {-1.0f, std::numeric_limits<float>::quiet_NaN()}) {
    Fixture f("w4a8");
    std::vector<LearnedTensor> tensors = *f.student->get();
    const auto steps = std::ranges::find_if(
        tensors, [](const LearnedTensor& t) { return t.name == "steps layers.0.attn.q"; });
    REQUIRE(steps != tensors.end());
    steps->values[3] = ratio;
    CHECK(*f.student->storable());
    REQUIRE(f.student->set(tensors).ok());
    CHECK_FALSE(*f.student->storable());
    const Status status = f.student->store(f.context);
    CHECK(status.code() == StatusCode::kInternal);
    CHECK(status.message().starts_with("layers.0.attn.q: learned scale "));
  }
}

}  // namespace abq::passes::testing
