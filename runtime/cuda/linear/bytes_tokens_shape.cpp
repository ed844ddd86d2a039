// Which blocks run a matrix by bytes for up to 8 tokens.
#include <algorithm>

#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/bytes_launchers.h"
#include "runtime/cuda/linear/bytes_tokens.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kDeepTiles = 16;   // k-tiles: with more, planes have larger shares
constexpr int kLeastTiles = 8;   // and fewer leave blocks too few warps
constexpr int kMostSlots = 128;  // of a block

int largest_cluster() {
  return launches_overlap() ? kMaxTokenCluster : 1;
}

int share_of(const WeightTiles& w, int k_tiles) {
  if (w.encoding == TileEncoding::kBase5) return 1;
  if (k_tiles <= kDeepTiles) return 2;
  return w.planes <= 2 ? 4 : 3;
}

// Warps that fit the registers of a multiprocessor; two blocks of half as many run side by side.
int warps_at_once(const BlockShape& shape, bool base5) {
  return shape.share == 4 || (base5 && shape.depth == 2) ? 12 : 16;
}

}  // namespace

int tokens_warps(const WeightTiles& w, const BlockShape& shape) {
  const int k_tiles = tiles_of(w.k, kTileDepth);
  const int units = w.encoding == TileEncoding::kBase5 ? base5_units(k_tiles) : k_tiles;
  return tiles_of(tiles_of(units, shape.share), shape.cluster);
}

// Measured at K of 2048 and more; there the kernel that runs everything is faster for few rows.
BlockShape bytes_tokens_shape(const WeightTiles& w) {
  const int k_tiles = tiles_of(w.k, kTileDepth);
  const int n_tiles = tiles_of(w.n, kTileRows);
  const bool wide = n_tiles > 4 * kMultiprocessors;
  BlockShape shape;
  if (w.group_size > 0 || w.planes > kMaxTokenPlanes || k_tiles < kLeastTiles ||
      (k_tiles == kLeastTiles && !wide))
    return shape;
  const bool base5 = w.encoding == TileEncoding::kBase5;
  shape.share = share_of(w, k_tiles);
  shape.depth = 1;
  while (tokens_warps(w, shape) > warps_at_once(shape, base5) / 2) {
    if (shape.cluster == largest_cluster()) return shape;
    shape.cluster *= 2;
  }
  const int warps = tokens_warps(w, shape);
  if (wide && (base5 ? warps <= 6 : w.planes <= 2 && shape.share == 2)) shape.depth = 2;
  // As few row tiles as let all blocks run at once: part of a second wave costs a whole one.
  const int at_once = kMultiprocessors * (warps_at_once(shape, base5) / warps);
  const int rows = std::min(tiles_of(n_tiles, at_once / shape.cluster), kMostSlots / warps);
  shape.clusters = tiles_of(n_tiles, rows);
  return shape;
}

}  // namespace abq::runtime::cuda
