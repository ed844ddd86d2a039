// Times every kernel that can run a model's quantized linears, at powers of two of tokens.
#pragma once

#include "runtime/cuda/engine/device_weights.h"
#include "runtime/tuning.h"

namespace abq::runtime::cuda {

// Most tokens that are measured.
inline constexpr int64_t kTunedTokens = 2048;

// The model's own layers are what a graph rotates over, so caches are as cold as in a decode step.
Result<std::vector<TunedChoice>> tune_linears(const LaunchList& list, const DeviceWeights& weights);

}  // namespace abq::runtime::cuda
