// Inverse frequencies of rotary position embedding, with the scalings that checkpoints use.
#pragma once

#include <cstdint>
#include <vector>

namespace abq::frontend {

enum class RopeScaling {
  kNone,
  kLinear,  // positions divided by factor (position interpolation, arXiv 2306.15595)
  kLlama3,  // low frequencies divided by factor, high ones kept, a ramp between (Llama 3.1)
};

struct RopeConfig {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  // kLlama3 only: wavelengths over original_context / low_frequency_factor are scaled, those under
  // original_context / high_frequency_factor are kept. low < high.
  double low_frequency_factor = 1.0;
  double high_frequency_factor = 4.0;
  int64_t original_context = 0;
};

// f[j] = theta^(-2j/D) for j < D/2 (RoPE, arXiv 2104.09864), scaled; computed in double and rounded
// once. head_dim is even.
std::vector<float> rope_inverse_frequencies(const RopeConfig& config, int64_t head_dim);

}  // namespace abq::frontend
