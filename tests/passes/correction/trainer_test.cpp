#include "passes/correction/trainer.h"

#include <doctest/doctest.h>

#include <cmath>

#include "passes/correction/student.h"
#include "passes/passes.h"
#include "tests/passes/test_model.h"

namespace abq::passes::testing {
namespace {

// The first block of the test model, ready to train: both streams are the float one.
struct Lesson {
  ir::Module module = make_test_model();
  PassContext context = context_for("w3a8");
  std::shared_ptr<compute::TensorDevice> device = compute::create_cpu_tensor_device();
  std::optional<autodiff::BlockEvaluator> evaluator;
  std::optional<Student> student;
  std::optional<WindowBatches> batches;

  Lesson() {
    context.tensor_device = device;
    context.calibration_windows = make_windows(6, 10);
    REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, context).ok());
    REQUIRE(dynamic_cast<BlockPass&>(*create_calibrate()).run(module, block(), context).ok());
    evaluator = *autodiff::BlockEvaluator::create(*device, module, block());
    student.emplace(*Student::create(
        *evaluator, module, context.layer_schemes,
        *find_scale_sites(module, block(), context.input_statistics, 0.5), {.compensation = true}));
    batches.emplace(
        *WindowBatches::create(*device, {&context.float_stream, &context.float_stream,
                                         &context.float_outputs, &context.float_outputs}));
  }
  ir::Region& block() { return region_named(module, "layers.0"); }

  quant::BlockReport train(const quant::CorrectionSettings& settings, uint64_t seed = 1) {
    quant::BlockReport report;
    const int64_t micro_batch = settings.micro_batch > 0 ? settings.micro_batch : settings.batch;
    const Trainer trainer(*evaluator, *batches, settings, micro_batch, seed);
    REQUIRE(trainer.train(*student, report, {}).ok());
    return report;
  }
  double loss(const quant::CorrectionSettings& settings) {
    return Trainer(*evaluator, *batches, settings, settings.batch, 0)
        .evaluate(*student)
        ->losses.total;
  }
  std::vector<float> all_values() {
    const std::vector<LearnedTensor> tensors = *student->get();
    std::vector<float> values;
    for (const LearnedTensor& tensor : tensors)
      values.insert(values.end(), tensor.values.begin(), tensor.values.end());
    return values;
  }
};

quant::CorrectionSettings short_training() {
  quant::CorrectionSettings settings;
  settings.epochs = 20;
  settings.batch = 2;
  return settings;
}

}  // namespace

TEST_CASE("training lowers the loss, epoch means are recorded with their parts") {
  const quant::CorrectionSettings settings = short_training();
  Lesson lesson;
  const double before = lesson.loss(settings);
  const quant::BlockReport report = lesson.train(settings);
  CHECK(lesson.loss(settings) < 0.9 * before);
  REQUIRE(report.epochs.size() == 20);
  CHECK(report.epochs.back().total < report.epochs.front().total);
  const quant::LossParts& first = report.epochs.front();
  CHECK(first.total == doctest::Approx(first.dlc + first.akl + first.mse).epsilon(1e-5));
  CHECK(first.dlc > 0);
  CHECK(first.akl > 0);
  CHECK(first.mse == 0);
  CHECK(report.events.empty());
}

TEST_CASE("a term of weight 0 is left out, others scale with their weights") {
  Lesson lesson;
  quant::CorrectionSettings settings = short_training();
  settings.akl_float = settings.akl_quantized = 0;
  settings.mse_float = 2;
  const quant::LossParts doubled = lesson.train(settings).epochs.front();
  CHECK(doubled.akl == 0);
  CHECK(doubled.mse > 0);
  Lesson other;
  settings.dlc_float = settings.dlc_quantized = 0;
  CHECK(other.train(settings).epochs.front().dlc == 0);
}

TEST_CASE("the same seed gives the same bits, another seed another order of windows") {
  const quant::CorrectionSettings settings = short_training();
  Lesson a, b, c;
  a.train(settings, 5);
  b.train(settings, 5);
  c.train(settings, 6);
  CHECK(a.all_values() == b.all_values());
  CHECK(a.all_values() != c.all_values());
}

TEST_CASE("gradients of micro-batches add up to those of the batch") {
  quant::CorrectionSettings settings = short_training();
  // Not DLC: its logarithm is taken of a mean over the micro-batch.
  settings.dlc_float = settings.dlc_quantized = 0;
  settings.akl_float = 1;
  settings.akl_quantized = 0.5;
  settings.mse_float = 1;
  settings.epochs = 1;
  settings.batch = 6;
  Lesson whole, parts;
  const double loss = whole.train(settings).epochs[0].total;
  settings.micro_batch = 2;
  CHECK(parts.train(settings).epochs[0].total == doctest::Approx(loss).epsilon(1e-5));
  // AdamW's first step has the size of the rate, whatever the gradient: only its sign shows, which
  // rounding may turn where a gradient is next to nothing.
  const std::vector<float> a = whole.all_values();
  const std::vector<float> b = parts.all_values();
  const auto close = [&](size_t i) { return std::fabs(a[i] - b[i]) < 1e-4f; };
  size_t agreeing = 0;
  for (size_t i = 0; i < a.size(); ++i)
    agreeing += close(i) ? 1 : 0;
  CHECK(agreeing > a.size() * 98 / 100);
}

TEST_CASE("a cosine schedule ends in smaller steps than a constant rate") {
  quant::CorrectionSettings settings = short_training();
  settings.epochs = 1;
  settings.batch = 1;
  const auto last_step = [&](quant::RateSchedule schedule) {
    settings.schedule = schedule;
    Lesson lesson;
    const std::vector<float> before = lesson.all_values();
    lesson.train(settings);
    const std::vector<float> after = lesson.all_values();
    double moved = 0;
    for (size_t i = 0; i < before.size(); ++i)
      moved += std::fabs(after[i] - before[i]);
    return moved;
  };
  CHECK(last_step(quant::RateSchedule::kCosine) < 0.8 * last_step(quant::RateSchedule::kConstant));
}

TEST_CASE("losses that are not finite end after three recoveries, in the best state there was") {
  quant::CorrectionSettings settings = short_training();
  settings.scale_rate = 1e30;
  Lesson lesson;
  const std::vector<float> before = lesson.all_values();
  const quant::BlockReport report = lesson.train(settings);
  CHECK(lesson.all_values() == before);
  REQUIRE(report.events.size() == 4);
  CHECK(report.events[0] ==
        "epoch 0: the loss is not finite; went back to the start of epoch 0 with 0.5 of the rates");
  CHECK(report.events[3] == "epoch 0: the loss is not finite after 3 recoveries; stopped");
  CHECK(report.epochs.empty());
}

TEST_CASE("a step that breaks the parameters is seen when it is the only one of its epoch") {
  quant::CorrectionSettings settings = short_training();
  settings.batch = 6;
  settings.scale_rate = 1e30;
  Lesson lesson;
  const std::vector<float> before = lesson.all_values();
  const quant::BlockReport report = lesson.train(settings);
  CHECK(lesson.all_values() == before);
  CHECK(!report.events.empty());
}

TEST_CASE("learning never ends worse than it started") {
  quant::CorrectionSettings settings = short_training();
  settings.epochs = 2;
  settings.clip_rate = 3;  // closes clip ranges at once
  Lesson lesson;
  const double before = lesson.loss(settings);
  lesson.train(settings);
  CHECK(lesson.loss(settings) <= before);
}

TEST_CASE("parts of a batch are halved until they fit, never below one window") {
  const Lesson lesson;
  const int64_t one = lesson.evaluator->learning_bytes(1, 10);
  const int64_t four = lesson.evaluator->learning_bytes(4, 10);
  CHECK(fitting_micro_batch(*lesson.evaluator, 4, 10, four) == 4);
  CHECK(fitting_micro_batch(*lesson.evaluator, 4, 10, four - 1) == 2);
  CHECK(fitting_micro_batch(*lesson.evaluator, 4, 10, one - 1) == 1);
}

}  // namespace abq::passes::testing
