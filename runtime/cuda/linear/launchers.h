// The kernels behind run_linear(), with the shapes of their blocks as arguments: what tuning and
// tests call. Arguments are checked by the callers.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

// Warps of a block share K.
struct BlockShape {
  // 2, 4, 6 or 8 (bits with base 5: 2 to 8): threads come in 64s, so that each finishes the same
  // rows.
  int warps = 8;
  // Of a lane under way. bits: k-tiles (base 5: units), the next instance serves. bytes for up to 8
  // tokens: row tiles, 1, and for base 5 and shares of 2 units of 1 or 2 planes 2.
  int depth = 2;
  // bytes for up to 8 tokens (bytes_tokens.h): clusters of the grid, 0 for the kernel that runs
  // everything; blocks of a cluster (1, 2, 4 or 8); units of a share (1 and 2 planes: 2 or 4, 3 and
  // 4 planes: 2 or 3, base 5: 1).
  int clusters = 0;
  int cluster = 1;
  int share = 1;
};

inline constexpr int kMaxWarps = 8;
inline constexpr int kMaxBitColumns = 8;        // of m * activation bits in launch_bits
inline constexpr int kBase5BitColumns = 8;      // of them with base-5 weights
inline constexpr int kMaxGroupedBitTokens = 4;  // with groups

inline constexpr int kMultiprocessors = 132;  // of the device that shapes were measured on

// Warps of a block: as many as let all blocks run at once, where `blocks` of 8 warps fit into the
// registers of a multiprocessor.
constexpr int one_wave_warps(int64_t all_blocks, int blocks) {
  int warps = kMaxWarps;
  while (warps > 2 && all_blocks > kMultiprocessors * blocks * (kMaxWarps / warps))
    warps /= 2;
  return warps;
}

BlockShape bits_shape(const WeightTiles& w);
BlockShape bits_base5_shape(const WeightTiles& w);
BlockShape bytes_shape(const WeightTiles& w, const TokenTiles& x);

cudaError_t launch_bits(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                        BlockShape shape, cudaStream_t stream);
// Base 5, tokens of kBase5BitColumns planes in all.
cudaError_t launch_bits_base5(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                              BlockShape shape, cudaStream_t stream);
cudaError_t launch_bits_groups(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, cudaStream_t stream);
cudaError_t launch_bytes(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                         BlockShape shape, cudaStream_t stream);

}  // namespace abq::runtime::cuda
