// Which part of the product a block computes, and in which order.
//
// A block tile is kBlockRows rows (8 weight tiles, one a consumer warp) x `tokens` tokens. Blocks
// stay for several tiles (the copies for the next one run while the last one is written); those of
// a cluster take row tiles next to each other and the same tokens, so that each fetches a part of
// the tokens for all. Tiles next to each other in time share weights, and a panel of kPanelTokens
// stays in L2 while all rows pass.
#pragma once

#include "runtime/cuda/views.h"
#include "runtime/cuda/wgmma/fragments.h"

namespace abq::runtime::cuda::wgmma {

inline constexpr int kConsumerWarps = 8;
inline constexpr int kBlockRows = kConsumerWarps * kTileRows;
inline constexpr int kPanelTokens = 2048;

struct Schedule {
  int row_tiles = 0;  // of a cluster's rows
  int token_tiles = 0;
  int panel = 0;  // token tiles of a panel
};
struct TilePlace {
  int row_tile = 0;
  int token_tile = 0;
};

inline Schedule make_schedule(int64_t m, int64_t n, int tokens, int cluster) {
  return {count_tiles(n, kBlockRows * cluster), count_tiles(m, tokens), kPanelTokens / tokens};
}
ABQ_WGMMA_FUNCTION int schedule_size(const Schedule& s) {
  return s.row_tiles * s.token_tiles;
}
ABQ_WGMMA_FUNCTION TilePlace schedule_place(const Schedule& s, int index) {
  const int panel_size = s.panel * s.row_tiles;
  const int first = index / panel_size * s.panel;
  const int width = s.token_tiles - first < s.panel ? s.token_tiles - first : s.panel;
  const int inside = index % panel_size;
  return {inside / width, first + inside % width};
}

// What a launch uses. Results do not depend on it.
struct LaunchChoice {
  int tokens = 256;  // of a block tile: 64, 128 or 256
  int cluster = 1;   // blocks that share their tokens: 1 or 2
};

// The choice with the least work for the busiest processor. A tile costs its tokens and something
// for each row of weights; narrow tiles reuse less of what they read.
inline LaunchChoice choose_launch(int64_t m, int64_t n, int processors) {
  LaunchChoice best;
  int64_t best_cost = 0;
  for (const int tokens : {256, 128, 64}) {
    const int64_t tiles = static_cast<int64_t>(tiles_of(m, tokens)) * tiles_of(n, kBlockRows);
    const int64_t rounds = (tiles + processors - 1) / processors;
    const int64_t cost = rounds * (tokens == 256 ? 256 + 16 : tokens == 128 ? 128 + 24 : 64 + 24);
    if (best_cost == 0 || cost < best_cost) {
      best_cost = cost;
      best.tokens = tokens;
    }
  }
  // Pairs of row tiles, where there are enough of them to leave no processor idle.
  best.cluster = best.tokens == 256 && tiles_of(n, kBlockRows) > 1 ? 2 : 1;
  return best;
}

}  // namespace abq::runtime::cuda::wgmma
