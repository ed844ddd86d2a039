#include "passes/autodiff/block_evaluator.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "compute/reference/reference_device.h"
#include "passes/autodiff/ops.h"
#include "support/random.h"
#include "tests/passes/test_model.h"

namespace abq::passes::testing {
namespace {

using autodiff::BlockEvaluator;
using autodiff::BlockRun;
using autodiff::Tape;
using autodiff::Var;
using compute::Tensor;

std::vector<float> random_hidden(int64_t tokens, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(tokens * kHidden));
  for (float& value : values)
    value = static_cast<float>(random.normal());
  return values;
}

std::vector<float> download(compute::TensorDevice& device, const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.size()));
  device.download(x, values);
  return values;
}

ir::Matrix evaluated(compute::TensorDevice& device, const ir::Module& module,
                     const std::vector<float>& hidden, int64_t context, const BlockRun& how) {
  const BlockEvaluator evaluator =
      *BlockEvaluator::create(device, module, region_named(module, "layers.0"));
  BlockRun run = how;
  run.context = context;
  Tape tape(device);
  const auto rows = static_cast<int64_t>(hidden.size()) / kHidden;
  const Var x = tape.constant(device.upload(hidden, rows, kHidden));
  return {rows, kHidden, download(device, evaluator.run(tape, x, run).hidden->value)};
}

// A scalar of the block's output and attention that every weight has a part in.
Var loss_of(Tape& tape, const autodiff::BlockOutput& output, const Tensor& target,
            const Tensor& probabilities) {
  return autodiff::weighted_sum(
      tape,
      {{autodiff::negative_log_abs(tape, autodiff::mean_cosine(tape, output.hidden, target)), 1},
       {autodiff::mean_squared_error(tape, output.hidden, target), 0.5f},
       {autodiff::symmetric_divergence(tape, output.probabilities.at(0), probabilities), 2}});
}

// With transforms after RoPE and before the down projection.
ir::Module rotated_model() {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a4-kv4-q4");
  REQUIRE(run_passes({"assign-schemes", "rotate"}, module, context).ok());
  return module;
}

}  // namespace

TEST_CASE("a float block runs as the interpreter runs it, several windows at once") {
  const ir::Module module = make_test_model();
  const auto device = compute::create_cpu_tensor_device();
  const std::vector<float> hidden = random_hidden(24, 3);
  const ir::Matrix both = evaluated(*device, module, hidden, 12, {});
  const ir::Interpreter interpreter(compute::reference_device());
  for (size_t w = 0; w < 2; ++w) {
    const auto half = static_cast<std::ptrdiff_t>(hidden.size() / 2);
    const auto first = hidden.begin() + static_cast<std::ptrdiff_t>(w) * half;
    const ir::Matrix x{12, kHidden, {first, first + half}};
    const ir::Matrix expected = *interpreter.run(module, region_named(module, "layers.0"), x);
    const auto mine = both.data.begin() + static_cast<std::ptrdiff_t>(w) * half;
    const ir::Matrix actual{12, kHidden, {mine, mine + half}};
    CHECK(relative_difference(actual, expected) < 1e-5);
  }
}

TEST_CASE("a quantized block runs as the interpreter runs it") {
  for (const char* scheme : {"w4a8-kv8-q8", "w2ba16-g32", "w8a6-kv4-sym", "w1a8"}) {
    CAPTURE(std::string(scheme));
    ir::Module module = make_test_model();
    PassContext context = context_for(scheme);
    REQUIRE(
        run_passes({"assign-schemes", "balance-bits", "quantize", "pack-weights"}, module, context)
            .ok());
    const auto device = compute::create_cpu_tensor_device();
    const std::vector<float> hidden = random_hidden(12, 4);
    BlockRun run;
    run.quantize_attention = true;
    const ir::Matrix actual = evaluated(*device, module, hidden, 12, run);
    const ir::Matrix expected =
        *ir::Interpreter().run(module, region_named(module, "layers.0"), {12, kHidden, hidden});
    // Rounding noise may move a code of an activation by one step: 2^-4 of a value's range at the
    // narrowest width here, in a few elements.
    double error = 0;
    double norm = 0;
    for (size_t i = 0; i < actual.data.size(); ++i) {
      error += std::pow(actual.data[i] - expected.data[i], 2);
      norm += std::pow(expected.data[i], 2);
    }
    CHECK(std::sqrt(error / norm) < 2e-3);
  }
}

TEST_CASE("attention is quantized only where the run asks for it") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w8a8-kv2-q2");
  REQUIRE(run_passes({"assign-schemes"}, module, context).ok());
  const auto device = compute::create_cpu_tensor_device();
  const std::vector<float> hidden = random_hidden(12, 5);
  const ir::Matrix plain = evaluated(*device, make_test_model(), hidden, 12, {});
  CHECK(evaluated(*device, module, hidden, 12, {}).data == plain.data);
  BlockRun run;
  run.quantize_attention = true;
  CHECK(relative_difference(evaluated(*device, module, hidden, 12, run), plain) > 1e-3);
}

TEST_CASE("a rotated block runs as the interpreter runs it") {
  const ir::Module module = rotated_model();
  const auto device = compute::create_cpu_tensor_device();
  const std::vector<float> hidden = random_hidden(12, 3);
  const ir::Matrix actual = evaluated(*device, module, hidden, 12, {});
  ir::Module wide = module;  // the run above leaves attention in floats
  for (ir::Node& node : region_named(wide, "layers.0").nodes) {
    if (node.op != ir::Op::kAttention) continue;
    node.attributes["query_bits"] = int64_t{16};
    node.attributes["kv_bits"] = int64_t{16};
  }
  const ir::Interpreter interpreter(compute::reference_device());
  const ir::Matrix expected =
      *interpreter.run(wide, region_named(wide, "layers.0"), {12, kHidden, hidden});
  CHECK(relative_difference(actual, expected) < 1e-5);
}

TEST_CASE("the gradient of every weight of a block agrees with finite differences in float64") {
  ir::Module module;
  SUBCASE("as it is imported") {
    module = make_test_model();
  }
  SUBCASE("rotated") {
    module = rotated_model();
  }
  const ir::Block& block = region_named(module, "layers.0");
  const auto device = compute::create_reference_tensor_device();
  const BlockEvaluator evaluator = *BlockEvaluator::create(*device, module, block);
  BlockRun run;
  run.context = 5;
  const Tensor x = device->upload(random_hidden(10, 6), 10, kHidden);
  const Tensor target = device->upload(random_hidden(10, 7), 10, kHidden);
  const Tensor probabilities =
      evaluator.probabilities(device->upload(random_hidden(10, 8), 10, kHidden), run)[0];

  const auto loss_with = [&](ir::ValueId weight, const Tensor& value) {
    run.weight = [&](ir::ValueId wanted) {
      Tape constants(*device);
      return wanted == weight ? constants.constant(value) : Var();
    };
    Tape tape(*device);
    return loss_of(tape, evaluator.run(tape, tape.constant(x), run), target, probabilities)
        ->value.as<double>()[0];
  };

  Random random(9);
  int checked = 0;
  for (const ir::Node& node : block.nodes) {
    if (node.op != ir::Op::kLinear && node.op != ir::Op::kRmsNorm) continue;
    CAPTURE(node.name);
    const ir::ValueId weight = node.operands[1];
    Tape tape(*device);
    const Var parameter = tape.parameter(device->copy(evaluator.weight(weight)));
    run.weight = [&](ir::ValueId wanted) { return wanted == weight ? parameter : Var(); };
    tape.backward(loss_of(tape, evaluator.run(tape, tape.constant(x), run), target, probabilities));
    // Along a random direction: one number that all elements have a part in.
    const Tensor value = device->copy(evaluator.weight(weight));
    std::vector<double> direction(static_cast<size_t>(value.size()));
    double slope = 0;
    for (size_t i = 0; i < direction.size(); ++i) {
      direction[i] = random.normal();
      slope += direction[i] * parameter->gradient.as<double>()[i];
    }
    constexpr double kStep = 1e-5;
    const auto moved = [&](double by) {
      const Tensor copy = device->copy(value);
      for (size_t i = 0; i < direction.size(); ++i)
        copy.as<double>()[i] += by * direction[i];
      return loss_with(weight, copy);
    };
    const double difference = (moved(kStep) - moved(-kStep)) / (2 * kStep);
    CHECK(slope == doctest::Approx(difference).epsilon(1e-6));
    ++checked;
  }
  CHECK(checked == 9);
}

TEST_CASE("probabilities alone are those of a whole run") {
  const ir::Module module = make_test_model();
  const auto device = compute::create_cpu_tensor_device();
  const BlockEvaluator evaluator =
      *BlockEvaluator::create(*device, module, region_named(module, "layers.1"));
  BlockRun run;
  run.context = 8;
  const Tensor x = device->upload(random_hidden(16, 10), 16, kHidden);
  Tape tape(*device);
  const autodiff::BlockOutput whole = evaluator.run(tape, tape.constant(x), run);
  const std::vector<Tensor> alone = evaluator.probabilities(x, run);
  REQUIRE(alone.size() == 1);
  CHECK(download(*device, alone[0]) == download(*device, whole.probabilities[0]->value));
}

TEST_CASE("an op that has no place in a block is refused by name") {
  const ir::Module module = make_test_model();
  const auto device = compute::create_cpu_tensor_device();
  const auto result = BlockEvaluator::create(*device, module, region_named(module, "embed"));
  REQUIRE(!result.ok());
  CHECK(result.status().message() == "embed: embedding has no place in a block");
}

}  // namespace abq::passes::testing
