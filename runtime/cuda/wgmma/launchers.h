// The launchers of the kernels in this folder: the CUDA side of wgmma_linear.h.
#pragma once

#include <cuda_runtime_api.h>

#include "runtime/cuda/views.h"
#include "runtime/cuda/wgmma/schedule.h"

namespace abq::runtime::cuda::wgmma {

// Tokens of a block tile when sums end with groups: integer and float sums share the registers.
inline constexpr int kGroupTokens = 128;

cudaError_t launch_bytes_channels(const WeightTiles& weights, const TokenTiles& tokens,
                                  const LinearOutput& output, const LaunchChoice& choice,
                                  cudaStream_t stream);
// Token tiles of kGroupTokens whatever `choice` says.
cudaError_t launch_bytes_groups(const WeightTiles& weights, const TokenTiles& tokens,
                                const LinearOutput& output, const LaunchChoice& choice,
                                cudaStream_t stream);
cudaError_t launch_bits(const WeightTiles& weights, const TokenTiles& tokens,
                        const LinearOutput& output, cudaStream_t stream);
bool has_bits_kernel(int planes, int activation_bits);

// The version of the intermediate code that a kernel of this binary runs from: 90 where it is code
// for sm_90a.
cudaError_t code_version(int* version);

// choose_launch() of schedule.h for this thread's device.
cudaError_t choose_launch(int64_t m, int64_t n, LaunchChoice* choice);

}  // namespace abq::runtime::cuda::wgmma
