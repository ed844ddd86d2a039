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
  // rows. bits_tokens: one for each k-tile of a block.
  int warps = 8;
  int depth = 2;    // bits: k-tiles (base 5: units) of a lane under way; the next instance serves
  int tiles = 1;    // bits_tokens: tiles of 16 rows of a cluster
  int cluster = 1;  // bits_tokens: blocks that share K: 1, 2, 4 or 8
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
BlockShape bits_tokens_shape(const WeightTiles& w);
BlockShape bytes_shape(const WeightTiles& w, const TokenTiles& x);

cudaError_t launch_bits(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                        BlockShape shape, cudaStream_t stream);
// Base 5, tokens of kBase5BitColumns planes in all.
cudaError_t launch_bits_base5(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                              BlockShape shape, cudaStream_t stream);
// 2 to 8 tokens and 1 to 4 planes, per channel, K up to bits_tokens_depth() on this device.
// shape.warps follows from K and the cluster.
int64_t bits_tokens_depth();
cudaError_t launch_bits_tokens(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, BlockShape shape, cudaStream_t stream);
cudaError_t launch_bits_groups(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, cudaStream_t stream);
cudaError_t launch_bytes(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                         BlockShape shape, cudaStream_t stream);

}  // namespace abq::runtime::cuda
