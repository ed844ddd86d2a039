#include "frontend/rope_frequencies.h"

#include <cmath>
#include <numbers>

namespace abq::frontend {
namespace {

double scale_llama3(const RopeConfig& config, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double turns = static_cast<double>(config.original_context) / wavelength;
  if (turns < config.low_frequency_factor) return frequency / config.factor;
  if (turns > config.high_frequency_factor) return frequency;
  const double keep = (turns - config.low_frequency_factor) /
                      (config.high_frequency_factor - config.low_frequency_factor);
  return (1.0 - keep) * frequency / config.factor + keep * frequency;
}

double scale(const RopeConfig& config, double frequency) {
  switch (config.scaling) {
    case RopeScaling::kNone:
      return frequency;
    case RopeScaling::kLinear:
      return frequency / config.factor;
    case RopeScaling::kLlama3:
      return scale_llama3(config, frequency);
  }
  return frequency;
}

}  // namespace

std::vector<float> rope_inverse_frequencies(const RopeConfig& config, int64_t head_dim) {
  std::vector<float> frequencies;
  for (int64_t j = 0; j < head_dim / 2; ++j) {
    const double exponent = -2.0 * static_cast<double>(j) / static_cast<double>(head_dim);
    frequencies.push_back(static_cast<float>(scale(config, std::pow(config.theta, exponent))));
  }
  return frequencies;
}

}  // namespace abq::frontend
