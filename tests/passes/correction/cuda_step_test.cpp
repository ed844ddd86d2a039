// One step of distribution correction from the same state on CPU and CUDA.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "passes/correction/losses.h"
#include "passes/correction/student.h"
#include "passes/passes.h"
#include "tests/passes/test_model.h"

namespace abq::passes::testing {
namespace {

struct Step {
  double loss = 0;
  std::vector<std::string> names;
  std::vector<std::vector<float>> gradients;  // empty where nothing came back
};

// The first block after calibration on the CPU: the state both devices start from, to the bit.
struct Start {
  ir::Module module = make_test_model();
  PassContext context;
  std::vector<ScaleSite> sites;
  std::vector<float> input;
  std::vector<float> target;

  Start(const std::string& scheme, bool rotated) : context(context_for(scheme)) {
    context.calibration_windows = make_windows(4, 12);
    std::vector<std::string> passes = {"assign-schemes", "balance-bits"};
    if (rotated) passes.push_back("rotate");
    REQUIRE(run_passes(passes, module, context).ok());
    REQUIRE(dynamic_cast<BlockPass&>(*create_calibrate()).run(module, block(), context).ok());
    sites = *find_scale_sites(module, block(), context.input_statistics, 0.5);
    const Stream& stream = context.float_stream;
    input.resize(static_cast<size_t>(stream.windows() * stream.context() * kHidden));
    target.resize(input.size());
    REQUIRE(stream.read(0, stream.windows(), input).ok());
    REQUIRE(context.float_outputs.read(0, stream.windows(), target).ok());
  }
  ir::Region& block() { return region_named(module, "layers.0"); }
};

Step first_step(compute::TensorDevice& device, Start& start) {
  const autodiff::BlockEvaluator evaluator =
      *autodiff::BlockEvaluator::create(device, start.module, start.block());
  const Student student = *Student::create(evaluator, start.module, start.context.layer_schemes,
                                           start.sites, {.compensation = true});
  const auto rows = static_cast<int64_t>(start.input.size()) / kHidden;
  const compute::Tensor x = device.upload(start.input, rows, kHidden);
  const compute::Tensor target = device.upload(start.target, rows, kHidden);

  quant::CorrectionSettings settings;
  settings.mse_float = settings.mse_quantized = 1;
  settings.akl_float = settings.akl_quantized = 1;
  autodiff::BlockRun run;
  run.context = start.context.float_stream.context();
  // Two targets that differ: the block's output and its input.
  const LossTargets targets = {target, x, evaluator.probabilities(x, run),
                               evaluator.probabilities(target, run)};
  autodiff::Tape tape(device);
  Student::Pass pass = student.run(tape, x, run.context, true);
  const Losses losses = correction_losses(tape, settings, pass.output, targets);
  Step step;
  float loss = 0;
  device.download(losses.total->value, std::span(&loss, 1));
  step.loss = loss;
  tape.backward(losses.total);
  for (size_t i = 0; i < pass.bound.size(); ++i) {
    step.names.push_back(student.parameters()[i].name);
    const compute::Tensor& gradient = pass.bound[i]->gradient;
    step.gradients.emplace_back(static_cast<size_t>(gradient.size()));
    if (!gradient.empty()) device.download(gradient, step.gradients.back());
  }
  REQUIRE(device.status().ok());
  return step;
}

double norm(std::span<const float> values) {
  double sum = 0;
  for (const float v : values)
    sum += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(sum);
}

}  // namespace

TEST_CASE("one step from the same state has the same losses and gradients on CPU and CUDA") {
  struct Case {
    std::string scheme;
    bool rotated = false;
  };
  for (const auto& [scheme, rotated] : {Case{"w4a8-kv8-q8"}, Case{"w2ba16"}, Case{"w8a8-g32-sym"},
                                        Case{"w4a4-kv4-q4"}, Case{"w4a4-kv4-q4", true}}) {
    CAPTURE(scheme);
    CAPTURE(rotated);
    Start start(scheme, rotated);
    const Step cpu = first_step(*compute::create_cpu_tensor_device(), start);
    const Step cuda = first_step(**compute::create_cuda_tensor_device(), start);
    CHECK(cuda.loss == doctest::Approx(cpu.loss).epsilon(1e-4));
    REQUIRE(cpu.gradients.size() == cuda.gradients.size());
    double largest = 0;
    for (const std::vector<float>& gradient : cpu.gradients)
      largest = std::max(largest, norm(gradient));
    for (size_t i = 0; i < cpu.gradients.size(); ++i) {
      CAPTURE(cpu.names[i]);
      std::vector<float> difference = cpu.gradients[i];
      REQUIRE(difference.size() == cuda.gradients[i].size());
      for (size_t j = 0; j < difference.size(); ++j)
        difference[j] -= cuda.gradients[i][j];
      // Gradients that are next to nothing are judged by the step's largest.
      CHECK(norm(difference) <= 1e-4 * std::max(norm(cpu.gradients[i]), 1e-2 * largest));
    }
  }
}

}  // namespace abq::passes::testing
