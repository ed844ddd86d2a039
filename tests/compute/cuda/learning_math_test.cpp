// The formulas that CUDA's kernels of rounded weights and of the divergence of logits apply to one
// element, on the host.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "compute/cuda/loss_math.cuh"
#include "compute/cuda/quantizer_math.cuh"
#include "compute/tensor_device.h"
#include "support/random.h"

namespace abq::compute::cuda {
namespace {

std::vector<float> normals(int64_t count, uint64_t seed, double scale) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values)
    v = static_cast<float>(scale * random.normal());
  return values;
}

std::vector<float> downloaded(TensorDevice& device, const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.size()));
  device.download(x, values);
  return values;
}

// One row by a team of threads: thread `lane` has every team-th column, as in long rows.
struct HostTeam {
  size_t team;
  const std::vector<float>& y;
  const std::vector<float>& target;

  LogitRow row() const {
    std::vector<ExponentialSum> of_y(team), of_target(team);
    for (size_t i = 0; i < y.size(); ++i) {
      add_exponential(of_y[i % team], y[i]);
      add_exponential(of_target[i % team], target[i]);
    }
    const float y_high = highest(of_y), target_high = highest(of_target);
    return logit_row(y_high, sum(of_y, y_high), target_high, sum(of_target, target_high));
  }
  static float highest(const std::vector<ExponentialSum>& parts) {
    float high = parts[0].high;
    for (const ExponentialSum& part : parts)
      high = std::max(high, part.high);
    return high;
  }
  static float sum(const std::vector<ExponentialSum>& parts, float high) {
    float total = 0;
    for (const ExponentialSum& part : parts)
      total += sum_below(high, part);
    return total;
  }
};

}  // namespace

TEST_CASE("a team's divergence of logits agrees with float64, close and far, small and huge") {
  const auto reference = create_reference_tensor_device();
  const Tensor one = reference->filled(1, 1, 1.0f);
  for (const int64_t cols : {1, 5, 300, 16400, 128256}) {
    // The last is far below what float32 would keep of a difference of two logarithms.
    for (const float distance : {30.0f, 3.0f, 0.3f, 1e-4f}) {
      CAPTURE(cols);
      CAPTURE(distance);
      const std::vector<float> target = normals(cols, 1, 3.0);
      std::vector<float> y = normals(cols, 2, static_cast<double>(distance));
      for (size_t i = 0; i < y.size(); ++i)
        y[i] += target[i];
      const LogitRow row = HostTeam{512, y, target}.row();
      const Tensor y64 = reference->upload(y, 1, cols), t64 = reference->upload(target, 1, cols);
      const float loss = downloaded(*reference, reference->logit_divergence(y64, t64))[0];
      const auto gradients =
          downloaded(*reference, reference->logit_divergence_backward(y64, t64, one));
      float largest = 0;
      for (const float g : gradients)
        largest = std::max(largest, std::fabs(g));
      double sum = 0;
      float worst = 0;
      int negative = 0;
      for (size_t i = 0; i < y.size(); ++i) {
        const LogitColumn column = logit_column(row, y[i], target[i]);
        // No term is negative but for its rounding.
        negative += column.divergence() < -1e-6f * column.p_y ? 1 : 0;
        sum += static_cast<double>(column.divergence());
        worst = std::max(worst, std::fabs(column.gradient() - gradients[i]));
      }
      CHECK(negative == 0);
      // Some ten steps of 2^-23, and as many of the probabilities whose difference a gradient is.
      CHECK(sum == doctest::Approx(loss).epsilon(2e-6));
      CHECK(worst <= 2e-6f * std::max(1.0f, 1.0f / distance) * largest);
    }
  }
}

TEST_CASE("NaN in one column makes a team's sum NaN, wherever it stands") {
  for (const size_t place : {0, 7, 99}) {
    std::vector<float> y = normals(100, 1, 1.0);
    const std::vector<float> target = y;
    y[place] = NAN;
    CHECK(std::isnan(HostTeam{32, y, target}.row().shift));
  }
}

TEST_CASE("an offset rounds to the weight of the CPU in every bit") {
  const auto cpu = create_cpu_tensor_device();
  const int64_t count = 4096;
  std::vector<float> offsets = normals(count, 3, 6.0);
  for (size_t i = 0; i < offsets.size(); i += 3)
    offsets[i] = std::round(2.0f * offsets[i]) / 2.0f;
  const Tensor x = cpu->upload(offsets, 1, count), dy = cpu->filled(1, count, 1.0f);
  const float scale = 0.0371f;
  const Tensor scales = cpu->filled(1, 1, scale);
  const auto check = [&](const auto& numbers, const WeightQuantizer& quantizer, float zero) {
    const Tensor zeros = cpu->filled(1, 1, zero);
    const auto y = downloaded(*cpu, cpu->rounded_weight(x, scales, zeros, quantizer));
    const auto dx = downloaded(
        *cpu, cpu->rounded_weight_backward(x, scales, zeros, quantizer, dy, true).offsets);
    int64_t different = 0;
    for (size_t i = 0; i < offsets.size(); ++i) {
      const float weight = rounded_weight_of(offsets[i], scale, numbers);
      const float gradient = rounded_weight_gradient(offsets[i], 1.0f, scale, numbers).x;
      different += std::bit_cast<uint32_t>(weight) == std::bit_cast<uint32_t>(y[i]) ? 0 : 1;
      different += gradient == dx[i] ? 0 : 1;
    }
    CHECK(different == 0);
  };
  for (const float zero : {0.0f, 3.0f, 15.0f})
    check(code_numbers(zero, 15.0f), {.levels = 16}, zero);
  check(SignNumbers{}, {.kind = WeightQuantizer::Kind::kBinary}, 0.0f);
}

}  // namespace abq::compute::cuda
