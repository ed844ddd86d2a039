// Which blocks run a matrix by bits for several tokens.
#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/linear/bits_tokens.h"
#include "runtime/cuda/linear/launchers.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kRangeTiles = 6;  // a block with more k-tiles leaves some to a larger cluster

int largest_cluster() {
  return launches_overlap() ? kMaxTokenCluster : 1;
}

}  // namespace

int64_t bits_tokens_depth() {
  return int64_t{largest_cluster()} * kMaxTokenWarps * kTileDepth;
}

BlockShape bits_tokens_shape(const WeightTiles& w) {
  const int k_tiles = tiles_of(w.k, kTileDepth);
  BlockShape shape;
  while (shape.cluster < largest_cluster() && tiles_of(k_tiles, shape.cluster) > kRangeTiles)
    shape.cluster *= 2;
  shape.warps = tiles_of(k_tiles, shape.cluster);
  // Each block of a cluster finishes two row tiles, where that leaves enough clusters, and threads
  // for all of their outputs at once.
  const bool wide = tiles_of(w.n, kTileRows) > 4 * kMultiprocessors && shape.warps >= 4;
  shape.tiles = (wide ? 2 : 1) * shape.cluster;
  return shape;
}

}  // namespace abq::runtime::cuda
