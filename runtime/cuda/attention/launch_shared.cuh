// Launches with more shared memory than a kernel gets without asking.
#pragma once

#include <cmath>

#include "runtime/cuda/launch.cuh"

namespace abq::runtime::cuda {

inline constexpr unsigned kDefaultSharedBytes = 48 * 1024;

// Scores to base 2: softmax(q k / sqrt(D)).
inline float score_scale(int head_dim) {
  return static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim)));
}

template <class... Params>
cudaError_t allow_shared(void (*kernel)(Params...), unsigned bytes) {
  if (bytes <= kDefaultSharedBytes) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

}  // namespace abq::runtime::cuda
