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

// Losses and gradients of the first block at the start, on all windows at once.
Step first_step(std::shared_ptr<compute::TensorDevice> device, const std::string& scheme,
                const std::vector<LearnedTensor>* state, std::vector<LearnedTensor>* made) {
  ir::Module module = make_test_model();
  PassContext context = context_for(scheme);
  context.tensor_device = device;
  context.calibration_windows = make_windows(4, 12);
  REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, context).ok());
  ir::Region& block = region_named(module, "layers.0");
  REQUIRE(dynamic_cast<BlockPass&>(*create_calibrate()).run(module, block, context).ok());
  const autodiff::BlockEvaluator evaluator =
      *autodiff::BlockEvaluator::create(*device, module, block);
  Student student = *Student::create(
      evaluator, module, context.layer_schemes,
      *find_scale_sites(module, block, context.input_statistics, 0.5), {.compensation = true});
  // The same state to the bit, whatever the devices' calibration rounded.
  if (state != nullptr) REQUIRE(student.set(*state).ok());
  if (made != nullptr) *made = *student.get();

  const int64_t rows = context.float_stream.windows() * context.float_stream.context();
  std::vector<float> hidden(static_cast<size_t>(rows * kHidden));
  REQUIRE(context.float_stream.read(0, context.float_stream.windows(), hidden).ok());
  const compute::Tensor x = device->upload(hidden, rows, kHidden);
  REQUIRE(context.float_outputs.read(0, context.float_stream.windows(), hidden).ok());
  const compute::Tensor target = device->upload(hidden, rows, kHidden);

  quant::CorrectionSettings settings;
  settings.mse_float = settings.mse_quantized = 1;
  settings.akl_float = settings.akl_quantized = 1;
  autodiff::BlockRun run;
  run.context = context.float_stream.context();
  const std::vector<compute::Tensor> probabilities = evaluator.probabilities(x, run);
  autodiff::Tape tape(*device);
  Student::Pass pass = student.run(tape, x, run.context, true);
  const Losses losses = correction_losses(tape, settings, pass.output,
                                          {target, target, probabilities, probabilities});
  Step step;
  float loss = 0;
  device->download(losses.total->value, std::span(&loss, 1));
  step.loss = loss;
  tape.backward(losses.total);
  for (size_t i = 0; i < pass.bound.size(); ++i) {
    step.names.push_back(student.parameters()[i].name);
    const compute::Tensor& gradient = pass.bound[i]->gradient;
    step.gradients.emplace_back(static_cast<size_t>(gradient.size()));
    if (!gradient.empty()) device->download(gradient, step.gradients.back());
  }
  REQUIRE(device->status().ok());
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
  for (const char* scheme : {"w4a8-kv8-q8", "w2ba16", "w8a8-g32-sym", "w4a4-kv4-q4"}) {
    CAPTURE(std::string(scheme));
    std::vector<LearnedTensor> state;
    const Step cpu = first_step(compute::create_cpu_tensor_device(), scheme, nullptr, &state);
    const Step cuda = first_step(std::move(compute::create_cuda_tensor_device()).value(), scheme,
                                 &state, nullptr);
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
