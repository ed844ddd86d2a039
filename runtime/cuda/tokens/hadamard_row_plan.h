// How a row that is transformed and quantized in one launch is dealt out to the blocks of a
// cluster. Host code that tests can call.
//
// The blocks of a token take its tiles of 256 columns, neighbours each. A block makes the rounds of
// the segments in which its tiles lie, mixes what its tiles need, and keeps that in shared memory,
// in the place of the values, until all blocks know the range of the row.
#pragma once

#include "runtime/cuda/tokens/hadamard_plan.h"
#include "runtime/cuda/tokens/token_plan.h"

namespace abq::runtime::cuda {

// A thread mixes one item of 4 parts x `columns` (4 or 8) with packed signs, which are always
// staged.
struct HadamardRowPlan : HadamardBlockPlan {
  int blocks = 0;  // of a token: a cluster; 0: a share does not fit into a block
  int tiles = 0;   // of a block; the last blocks may have fewer, or none
};

// The share of block `rank` and in `start` the column of its unit's first float.
__host__ __device__ inline HadamardShare hadamard_tiles(const HadamardMatrix& matrix, int columns,
                                                        int tiles, int rank, int* start) {
  HadamardShare share;
  const int first = rank * tiles * kTileDepth;
  const int end = first + tiles * kTileDepth < columns ? first + tiles * kTileDepth : columns;
  *start = first;
  if (first >= end) return share;
  const int size = matrix.size();
  *start = first / size * size;
  share.first = first - *start;
  share.last = end - *start;
  const int segments = divide_up(share.last, size);
  share.count = segments * size;
  if (matrix.order == 1) return share;
  const int quad_floats = kHadamardRows * matrix.length;
  share.first_quad = share.first / quad_floats;
  share.last_quad = divide_up(share.last, quad_floats);
  share.quads = matrix.order / kHadamardRows;
  if (segments > 1) return share;
  // Of one segment: only the signs of these rows are needed.
  share.first_row = share.first_quad;
  share.quads = share.last_quad - share.first_quad;
  share.first_quad = 0;
  share.last_quad = share.quads;
  return share;
}

constexpr int kMaxHadamardRowThreads = 1024;

// A plan for m tokens and clusters of `blocks` (a power of two) whose threads mix `mixed` columns,
// 4 or 8: a divisor of the length. A row has at most kMaxHeldTiles tiles.
inline HadamardRowPlan plan_hadamard_rows(const HadamardMatrix& matrix, int m, int columns,
                                          int blocks, int mixed) {
  constexpr unsigned kSharedBytes = 218 * 1024;  // of 227 KiB; the exchange takes some
  constexpr int kFewBlocks = 128;                // about the multiprocessors of a large device
  // For the rounds. Of many blocks that do nothing else a multiprocessor holds several.
  const int most = matrix.order == 1 && m * blocks > kFewBlocks ? 256 : 512;
  HadamardRowPlan plan;
  plan.tiles = divide_up(divide_up(columns, kTileDepth), blocks);
  plan.columns = mixed;
  int unit = 0, quads = 0, items = 0;  // of the largest share
  for (int rank = 0; rank < blocks; ++rank) {
    int start = 0;
    const HadamardShare share = hadamard_tiles(matrix, columns, plan.tiles, rank, &start);
    const int own = (share.last_quad - share.first_quad) * (matrix.length / mixed);
    unit = share.count > unit ? share.count : unit;
    quads = share.quads > quads ? share.quads : quads;
    items = own > items ? own : items;
  }
  plan.staged = matrix.order > 1;
  plan.value_bytes = HadamardPadding::bytes(matrix.length, unit);
  plan.shared_bytes =
      plan.value_bytes + (plan.staged ? static_cast<unsigned>(quads * matrix.order) * 4u : 0u);
  if (plan.shared_bytes > kSharedBytes || items > kMaxHadamardRowThreads) return plan;
  plan.blocks = blocks;
  const int for_rounds = unit / 8 < most ? unit / 8 : most;
  const int threads = items > for_rounds ? items : for_rounds;
  plan.threads = threads > kLanes ? divide_up(threads, kLanes) * kLanes : kLanes;
  return plan;
}

// The plan for m tokens; none (blocks 0) where two launches are faster or a share does not fit.
// docs/rotation.md has what was measured.
inline HadamardRowPlan choose_hadamard_rows(const HadamardMatrix& matrix, int m, int columns) {
  constexpr int kFewTokens = 16;    // 4 blocks or more a token still have a multiprocessor each
  constexpr int kLargeOrder = 100;  // few tokens: mixed by more blocks than a cluster has
  if (columns > kMaxHeldTiles * kTileDepth) return {};
  if (matrix.order > 1 && matrix.length % 4 != 0) return {};
  if (matrix.order >= kLargeOrder && m <= kFewTokens) return {};
  const int preferred = m > 64 && matrix.length >= 64 ? 8 : 4;
  int blocks = m <= kFewTokens / 2 ? 8 : m <= kFewTokens ? 4 : m <= 64 ? 2 : 1;
  for (; blocks <= kMaxCluster; blocks *= 2) {
    for (int mixed = preferred; mixed <= 8 && matrix.length % mixed == 0; mixed *= 2) {
      const HadamardRowPlan plan = plan_hadamard_rows(matrix, m, columns, blocks, mixed);
      if (plan.blocks != 0) return plan;
    }
  }
  return {};
}

}  // namespace abq::runtime::cuda
