// Linears for many tokens on Hopper's warpgroup instructions (sm_90a): weight words go from device
// memory to registers, are expanded there (bytes) or used as they are (bits), and meet activations
// that the bulk copy engine brings to shared memory.
#pragma once

#include "runtime/cuda/linear_kernels.h"

namespace abq::runtime::cuda {

// Ok, or Unsupported: another device, another binary, or a problem outside the kernel's limits.
Status check_bytes_wgmma(const LinearProblem& problem);
Status check_bits_wgmma(const LinearProblem& problem);

// bytes: tokens.codes; bits: tokens.planes.
Status run_bytes_wgmma(const WeightTiles& weights, const TokenTiles& tokens,
                       const LinearOutput& output, cudaStream_t stream);
Status run_bits_wgmma(const WeightTiles& weights, const TokenTiles& tokens,
                      const LinearOutput& output, cudaStream_t stream);

}  // namespace abq::runtime::cuda
