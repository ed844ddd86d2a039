// How cuda.bytes for up to 8 tokens shares out a matrix: index arithmetic of the kernel
// (bytes_tokens_kernel.cuh), of its launcher and of the test that emulates both.
//
// K is cut into shares of as many units of weights. A cluster of blocks has a range of row tiles
// (16 rows each); its blocks have ranges of shares, and each warp one share. So a warp keeps the
// codes of all tokens for its share in registers, and the cluster's weights run past them. The
// block adds up its warps, and sends the sums of a row tile to the block that owns it: tile r of
// the cluster belongs to block r mod cluster.
//
//   slots:     [row tile][warp][lane][row g, row g + 8 of token 2 t, then both of token 2 t + 1]
//   arrivals:  [own tile][block of the cluster][lane][same]
//   rows:      [own tile][scales, zeros, sums][row]
//
// A cluster of one block sends nothing.
#pragma once

#include "runtime/cuda/linear/tile_layout.h"

namespace abq::runtime::cuda {

inline constexpr int kMaxTokenPlanes = 4;  // of weights
inline constexpr int kMaxTokenWarps = 16;  // of a block
inline constexpr int kMaxTokenCluster = 8;
inline constexpr int kSlotBytes = 16 * kLanes;
inline constexpr int kRowTermWords = 3 * kTileRows;  // of a row tile

struct TokensGrid {
  int shares = 0;  // of K
  int clusters = 1;
  int cluster_log2 = 0;
  // Of each cluster; the first `longer` of them have one more.
  int row_tiles = 1;
  int longer = 0;

  ABQ_TILE_FUNCTION int cluster() const { return 1 << cluster_log2; }
  ABQ_TILE_FUNCTION int blocks() const { return clusters << cluster_log2; }
  ABQ_TILE_FUNCTION int rank(int block) const { return block & (cluster() - 1); }
  // The row tiles of a block's cluster: the first, and how many.
  ABQ_TILE_FUNCTION int first_row(int block) const {
    const int own = block >> cluster_log2;
    return own * row_tiles + (own < longer ? own : longer);
  }
  ABQ_TILE_FUNCTION int rows(int block) const {
    return row_tiles + ((block >> cluster_log2) < longer ? 1 : 0);
  }
  ABQ_TILE_FUNCTION int most_rows() const { return row_tiles + (longer > 0 ? 1 : 0); }
  // The shares of a block are first_share(rank) .. first_share(rank + 1) - 1.
  ABQ_TILE_FUNCTION int first_share(int rank) const { return (shares * rank) >> cluster_log2; }
  // Warps of the longest range.
  ABQ_TILE_FUNCTION int warps() const { return (shares + cluster() - 1) >> cluster_log2; }
  // Of `rows` row tiles: those that a block owns; the block that owns one, and its number there.
  ABQ_TILE_FUNCTION int owned(int rows, int rank) const {
    return (rows - rank + cluster() - 1) >> cluster_log2;
  }
  ABQ_TILE_FUNCTION int owner(int row) const { return rank(row); }
  ABQ_TILE_FUNCTION int own_number(int row) const { return row >> cluster_log2; }
  // First slots of a row tile and of an own tile, and of what follows, in slots.
  ABQ_TILE_FUNCTION int slot(int row) const { return row * warps(); }
  ABQ_TILE_FUNCTION int arrival(int own) const { return slot(most_rows()) + (own << cluster_log2); }
  ABQ_TILE_FUNCTION int slots() const {
    return cluster_log2 == 0 ? slot(most_rows()) : arrival(owned(most_rows(), 0));
  }
  ABQ_TILE_FUNCTION int shared_bytes() const {
    return slots() * kSlotBytes + owned(most_rows(), 0) * kRowTermWords * 4;
  }
};

// `cluster`: 1, 2, 4 or 8; `clusters`: at most a row tile's number.
inline TokensGrid tokens_grid(int64_t n, int shares, int clusters, int cluster) {
  TokensGrid grid;
  grid.shares = shares;
  grid.clusters = clusters;
  while ((2 << grid.cluster_log2) <= cluster)
    ++grid.cluster_log2;
  const int n_tiles = tiles_of(n, kTileRows);
  grid.row_tiles = n_tiles / clusters;
  grid.longer = n_tiles % clusters;
  return grid;
}

// Pair number 0..63 of a slot (8 bytes): rows g and g + 8 of a token.
ABQ_TILE_FUNCTION int pair_row(int pair) {
  return pair >> 3;
}
ABQ_TILE_FUNCTION int pair_token(int pair) {
  return pair & 7;
}

}  // namespace abq::runtime::cuda
