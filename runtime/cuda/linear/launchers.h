// The kernels behind run_linear(), with the shapes of their blocks as arguments: what tuning and
// tests call. Arguments are checked by the callers.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

// Warps of a block share K; each lane has `depth` k-tiles (units of base 5) under way.
struct BlockShape {
  int warps = 8;  // bits: 1..8, bytes: 2, 4, 6 or 8
  int depth = 2;  // the next instance that exists serves
};

inline constexpr int kMaxWarps = 8;
inline constexpr int kMaxBitColumns = 32;       // of m * activation bits
inline constexpr int kMaxGroupedBitTokens = 4;  // with groups

BlockShape bits_shape(const WeightTiles& w, const TokenTiles& x);
BlockShape bytes_shape(const WeightTiles& w, const TokenTiles& x);

cudaError_t launch_bits(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                        BlockShape shape, cudaStream_t stream);
cudaError_t launch_bits_groups(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, cudaStream_t stream);
cudaError_t launch_bytes(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                         BlockShape shape, cudaStream_t stream);

// Reads `bytes` (a multiple of 16) once and nothing else: the time that no kernel can beat.
cudaError_t launch_read_floor(const void* data, int64_t bytes, uint32_t* sink, int blocks,
                              cudaStream_t stream);

}  // namespace abq::runtime::cuda
