// Launches of the half kernels, between their .cu files and half_linear.cpp.
#pragma once

#include <cuda_runtime_api.h>

#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

struct HalfArguments {
  WeightTiles weights;
  HalfTokens tokens;
  LinearOutput output;
};

// Tokens of one pass of the kernel for few of them: 4 to a column block of 8, a high and a low part
// each.
inline constexpr int kHalfColumnTokens = 4;
inline constexpr int kHalfDecodeTokens = 32;

cudaError_t launch_half_decode(const HalfArguments& arguments, cudaStream_t stream);
cudaError_t launch_half_prefill(const HalfArguments& arguments, cudaStream_t stream);

}  // namespace abq::runtime::cuda
