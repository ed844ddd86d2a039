#include <cmath>

#include "attention_case_arrays.h"
#include "attention_reference.h"

namespace abq::runtime::cuda {

void check_rope(int head_dim, int columns, int rows, bool batched) {
  Random random(static_cast<uint64_t>(head_dim + columns + rows));
  const std::vector<float> frequencies = inverse_frequencies(head_dim);
  const KernelArray<float> device_frequencies{std::span<const float>(frequencies)};
  std::vector<SequenceState> states(static_cast<size_t>(batched ? rows : 1));
  for (SequenceState& state : states)
    state.position = static_cast<int64_t>(random.below(100000));
  const KernelArray<SequenceState> device_states{std::span<const SequenceState>(states)};
  const int64_t stride = columns + kGap;
  const std::vector<float> x = random_rows(random, rows, stride);
  const KernelArray<float> device_x{std::span<const float>(x)};
  const KernelArray<float> device_y(rows * stride);
  const Status status = rope(device_x.data(), stride, columns, head_dim, device_frequencies.data(),
                             device_states.data(), batched, rows, device_y.data(), stride, nullptr);
  const std::string words = status.to_string();
  INFO(words);
  REQUIRE(status.ok());
  const std::vector<float> y = device_y.values();
  const auto half = static_cast<size_t>(head_dim / 2);
  Comparison comparison;
  for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
    const int64_t position =
        batched ? states[row].position : states[0].position + static_cast<int64_t>(row);
    for (size_t head = 0; head < static_cast<size_t>(columns / head_dim); ++head) {
      for (size_t j = 0; j < half; ++j) {
        const double angle = static_cast<double>(position) * static_cast<double>(frequencies[j]);
        const auto cosine = static_cast<float>(std::cos(angle));
        const auto sine = static_cast<float>(std::sin(angle));
        const size_t at =
            row * static_cast<size_t>(stride) + head * static_cast<size_t>(head_dim) + j;
        // Cosine and sine may differ by their last bit.
        const float tolerance = 0x1p-23f * (std::fabs(x[at]) + std::fabs(x[at + half]));
        const float low = x[at] * cosine - x[at + half] * sine;
        const float high = x[at + half] * cosine + x[at] * sine;
        comparison.count(
            std::fabs(y[at] - low) <= tolerance && std::fabs(y[at + half] - high) <= tolerance,
            [&] {
              return fmt::format("row {} head {} pair {}: expected {} {}, got {} {}", row, head, j,
                                 low, high, y[at], y[at + half]);
            });
      }
    }
    for (size_t i = static_cast<size_t>(columns); i < static_cast<size_t>(stride); ++i)
      comparison.count(bits_of(y[row * static_cast<size_t>(stride) + i]) == kPoison,
                       [&] { return fmt::format("gap of row {}", row); });
  }
  comparison.finish("rotated rows");
}

}  // namespace abq::runtime::cuda
