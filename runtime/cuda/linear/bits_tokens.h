// How cuda.bits for several tokens shares out a matrix: index arithmetic of the kernel
// (bits_tokens_kernel.cuh), of its launcher and of the test that emulates both.
//
// A cluster of blocks has `row_tiles` tiles of 16 rows; its blocks share K in ranges, and each warp
// has one k-tile of its block's range. So a warp keeps the planes of all tokens for its k-tile in
// registers, and the cluster's weights run past it. The block adds up its warps, and sends the sums
// of a row tile to the block that owns it: tile r of the cluster belongs to block r mod cluster.
//
//   slots:     [row tile][warp][lane][row g, row g + 8 of token 2 t, then both of token 2 t + 1]
//   arrivals:  [own tile][block of the cluster][lane][same]
//
// A cluster of one block sends nothing.
#pragma once

#include "runtime/cuda/linear/tile_layout.h"

namespace abq::runtime::cuda {

inline constexpr int kMaxBitTokens = 8;    // columns of the matrix instruction
inline constexpr int kMaxTokenPlanes = 4;  // of weights
inline constexpr int kMaxTokenWarps = 16;  // of a block
inline constexpr int kMaxTokenCluster = 8;
inline constexpr int kSlotBytes = 16 * kLanes;

struct TokensGrid {
  int n_tiles = 0;
  int k_tiles = 0;
  int row_tiles = 1;  // of a cluster
  int cluster_log2 = 0;

  ABQ_TILE_FUNCTION int cluster() const { return 1 << cluster_log2; }
  ABQ_TILE_FUNCTION int clusters() const { return (n_tiles + row_tiles - 1) / row_tiles; }
  ABQ_TILE_FUNCTION int rank(int block) const { return block & (cluster() - 1); }
  ABQ_TILE_FUNCTION int first_row(int block) const { return (block >> cluster_log2) * row_tiles; }
  // Row tiles of a cluster, the last of which may have fewer.
  ABQ_TILE_FUNCTION int rows(int first) const {
    return n_tiles - first < row_tiles ? n_tiles - first : row_tiles;
  }
  // The k-tiles of a block are first_k(rank) .. first_k(rank + 1) - 1.
  ABQ_TILE_FUNCTION int first_k(int rank) const { return (k_tiles * rank) >> cluster_log2; }
  // Warps of the longest range.
  ABQ_TILE_FUNCTION int warps() const { return (k_tiles + cluster() - 1) >> cluster_log2; }
  // Of `rows` row tiles: those that a block owns; the block that owns one, and its number there.
  ABQ_TILE_FUNCTION int owned(int rows, int rank) const {
    return (rows - rank + cluster() - 1) >> cluster_log2;
  }
  ABQ_TILE_FUNCTION int owner(int row) const { return rank(row); }
  ABQ_TILE_FUNCTION int own_number(int row) const { return row >> cluster_log2; }
  // First slots of a row tile and of an own tile, in slots.
  ABQ_TILE_FUNCTION int slot(int row) const { return row * warps(); }
  ABQ_TILE_FUNCTION int arrival(int own) const { return slot(row_tiles) + (own << cluster_log2); }
  ABQ_TILE_FUNCTION int shared_bytes() const {
    return (cluster_log2 == 0 ? slot(row_tiles) : arrival(owned(row_tiles, 0))) * kSlotBytes;
  }
};

inline TokensGrid tokens_grid(int64_t n, int64_t k, int row_tiles, int cluster) {
  int log2 = 0;
  while ((2 << log2) <= cluster)
    ++log2;
  return {tiles_of(n, kTileRows), tiles_of(k, kTileDepth), row_tiles, log2};
}

// Pair number 0..63 of a slot (8 bytes): rows g and g + 8 of a token.
ABQ_TILE_FUNCTION int pair_row(int pair) {
  return pair >> 3;
}
ABQ_TILE_FUNCTION int pair_token(int pair) {
  return pair & 7;
}

}  // namespace abq::runtime::cuda
