// How a row of a token is spread over warps and blocks. Host code that tests can call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "runtime/cuda/views.h"

namespace abq::runtime::cuda {

constexpr int kMaxRowWarps = 32;
constexpr int kMaxCluster = 8;  // what every device with clusters can launch
constexpr int kMaxHeld = 2;
// Tiles of the longest row that is held in registers.
constexpr int kMaxHeldTiles = kMaxCluster * kMaxRowWarps * kMaxHeld;

struct TokenPlan {
  int held = 0;    // tiles of a warp, in registers; 0: any number, read again for each use
  int blocks = 1;  // of a token: a cluster
  int warps = 1;   // of a block
};

__host__ __device__ constexpr int divide_up(int a, int b) {
  return (a + b - 1) / b;
}

// `vector`: 16-byte accesses serve the whole row. Sums over a row have one order for a given number
// of columns and `vector`, whatever the plan: tiles are added up in their own order.
constexpr TokenPlan plan_tokens(int m, int columns, bool vector, bool clusters) {
  constexpr int kFewTokens = 16;     // latency counts more than multiprocessors
  constexpr int kTilesOfABlock = 4;  // below, a cluster's barrier costs more than it saves
  constexpr int kManyTokens = 512;   // instructions count more than latency
  constexpr int kWarpsOfMany = 16;   // of a block then, so that several share a multiprocessor
  const int tiles = columns > 0 ? divide_up(columns, kTileDepth) : 1;
  const bool many = m >= kManyTokens && tiles > 1;
  TokenPlan plan;
  int blocks = 1;
  while (blocks < kMaxCluster && tiles > blocks * (many ? kWarpsOfMany : kMaxRowWarps) * kMaxHeld)
    blocks *= 2;
  if (m <= kFewTokens) {
    while (blocks < kMaxCluster && tiles >= 2 * blocks * kTilesOfABlock)
      blocks *= 2;
  }
  if (!clusters) blocks = 1;
  if (!vector || tiles > blocks * kMaxRowWarps * kMaxHeld) {
    plan.warps = tiles < kMaxRowWarps ? tiles : kMaxRowWarps;
    return plan;
  }
  plan.held = many || tiles > blocks * kMaxRowWarps ? kMaxHeld : 1;
  plan.blocks = blocks;
  plan.warps = divide_up(tiles, blocks * plan.held);
  return plan;
}

}  // namespace abq::runtime::cuda
