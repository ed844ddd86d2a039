// How the half kernel for few tokens divides a product: the warps of a block are `row_warps` rows
// of weight tiles times `k_warps` slices of the inputs, and the blocks of a cluster go on with the
// next slices. A block copies the activations of its slices to shared memory.
#pragma once

#include <cstdint>

#include "runtime/cuda/half/half_kernels.h"

namespace abq::runtime::cuda {

// Tiles ahead of which a warp copies scales and zero points, when groups have their own.
inline constexpr int kGroupStages = 4;

// First unit of slice `slice`: slices have `units` each, the first `longer` of them one more.
ABQ_HOST_DEVICE_INLINE constexpr int slice_begin(int slice, int units, int longer) {
  return slice * units + (slice < longer ? slice : longer);
}

// Shared memory, in 16-byte words. A column of activations, [tile][step][lane % 4][half]: the odd
// multiple of 64 bytes lets two columns meet all banks.
ABQ_HOST_DEVICE_INLINE constexpr int column_words(int tiles) {
  return tiles * (kTileDepth / 8) + 4;
}
// Byte of the four inputs 4 p .. 4 p + 3 of a column.
ABQ_HOST_DEVICE_INLINE constexpr int activation_byte(int p) {
  return p / 8 * 64 + p % 4 * 16 + p / 4 % 2 * 8;
}
// Scales, then zero points of the groups of one tile.
ABQ_HOST_DEVICE_INLINE constexpr int group_words(int tile_groups) {
  return tile_groups * 2 * kTileRows / 4;
}

struct HalfDecodeWork {
  int n_tiles = 0;
  int k_tiles = 0;
  int units = 0;  // along k, of unit_tiles tiles
  int unit_tiles = 1;
  int tile_words = 0;     // 16-byte words of weights of a tile
  int tile_groups = 0;    // groups of a tile; 0 = per channel
  int column_blocks = 1;  // of 8 columns in a block's registers
  int columns = 2;        // of a block, at most, that exist
  int token_blocks = 1;
};
struct HalfDecodeLimits {
  int processors = 0;
  int shared_bytes = 0;
  int cluster = 1;  // blocks of a cluster, at most
};
struct HalfDecodeShape {
  int row_warps = 0;  // 0: the activations of no slice fit
  int k_warps = 1;
  int cluster = 1;
  int shared_bytes = 0;
};

// Most warps of a block: with more columns each needs more registers.
constexpr int most_decode_warps(int column_blocks) {
  return column_blocks > 2 ? 8 : 16;
}

inline int64_t decode_shared_bytes(const HalfDecodeWork& work, const HalfDecodeShape& shape) {
  const int slices = shape.cluster * shape.k_warps;
  const int units = slice_begin(shape.k_warps, work.units / slices, work.units % slices);
  const int64_t all = static_cast<int64_t>(units) * work.unit_tiles;
  const int tiles = all < work.k_tiles ? static_cast<int>(all) : work.k_tiles;
  const int warps = shape.row_warps * shape.k_warps;
  const int64_t operands = static_cast<int64_t>(work.columns) * column_words(tiles) +
                           warps * kGroupStages * group_words(work.tile_groups);
  const int64_t sums = warps * work.column_blocks * 16;
  return 16 * (operands > sums ? operands : sums);
}

// Cycles, roughly: what a processor's warps need for their tiles, or wait for at least, the copies
// of activations, and what a wave of blocks costs by itself.
inline double decode_cost(const HalfDecodeWork& work, const HalfDecodeShape& shape,
                          const HalfDecodeLimits& limits) {
  const int warps = shape.row_warps * shape.k_warps;
  const int by_shared = limits.shared_bytes / (shape.shared_bytes + 1024);
  const int by_warps = most_decode_warps(work.column_blocks) / warps;
  const int fit = by_shared < 1 ? 1 : by_shared < by_warps ? by_shared : by_warps;
  // Clusters of four and more do not reach every processor.
  const int processors =
      shape.cluster > 2 ? limits.processors - limits.processors / 32 : limits.processors;
  const int64_t blocks =
      static_cast<int64_t>((work.n_tiles + shape.row_warps - 1) / shape.row_warps) * shape.cluster *
      work.token_blocks;
  const int64_t each = (blocks + processors - 1) / processors;
  const int64_t waves = (each + fit - 1) / fit;
  const double resident = static_cast<double>(each < fit ? each : fit);
  const int slices = shape.cluster * shape.k_warps;
  const int tiles = (work.units + slices - 1) / slices * work.unit_tiles;
  const double reads = 25.0 * work.tile_words / 32;
  const int column_blocks = work.columns > 32 ? 8 : work.column_blocks < 4 ? work.column_blocks : 4;
  const double products = 70.0 + 25.0 * column_blocks;
  const double busy = resident * warps * (reads > products ? reads : products);
  const double copies = resident * shape.shared_bytes / 40;
  const double alone = shape.cluster > 1 ? 3500 : 2000;
  return static_cast<double>(waves) * (tiles * (busy > 600 ? busy : 600.0) + copies + alone);
}

inline HalfDecodeShape choose_decode_shape(const HalfDecodeWork& work,
                                           const HalfDecodeLimits& limits) {
  const int most_warps = most_decode_warps(work.column_blocks);
  HalfDecodeShape best;
  double best_cost = 0;
  for (int cluster = 1; cluster <= limits.cluster; cluster *= 2) {
    for (int k_warps = 1; k_warps <= most_warps && cluster * k_warps <= work.units; ++k_warps) {
      for (int row_warps = 1; row_warps * k_warps <= most_warps; ++row_warps) {
        HalfDecodeShape shape{row_warps, k_warps, cluster, 0};
        const int64_t bytes = decode_shared_bytes(work, shape);
        if (bytes > limits.shared_bytes) continue;
        shape.shared_bytes = static_cast<int>(bytes);
        const double cost = decode_cost(work, shape, limits);
        if (best.row_warps != 0 && cost >= best_cost) continue;
        best = shape;
        best_cost = cost;
      }
    }
  }
  return best;
}

}  // namespace abq::runtime::cuda
