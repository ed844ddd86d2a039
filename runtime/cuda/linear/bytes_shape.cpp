// Which instance and block of the byte kernels runs a matrix.
#include <algorithm>

#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/bytes_launchers.h"
#include "runtime/cuda/linear/bytes_tokens.h"

namespace abq::runtime::cuda {

BlockShape bytes_shape(const WeightTiles& w, const TokenTiles& x) {
  if (x.m <= kTokenColumns) {
    const BlockShape shape = bytes_tokens_shape(w);
    if (shape.clusters > 0) return shape;
  }
  const int k_tiles = tiles_of(w.k, kTileDepth);
  const int n_tiles = tiles_of(w.n, kTileRows);
  const bool base5 = w.encoding == TileEncoding::kBase5;
  const int units = base5 ? base5_units(k_tiles) : k_tiles;
  // An even number of warps: threads come in 64s, so that each finishes the same rows.
  const int warps = std::clamp(units + units % 2, 2, kMaxWarps);
  if (base5) return {warps, 1};
  // Wide matrices start more blocks than run at once: small ones with deep loads go on sooner.
  if (x.m <= 8 && n_tiles > 4 * kMultiprocessors && k_tiles <= 16) return {2, 4};
  return {warps, x.m <= 8 && units > 2 * warps && w.planes <= 2 ? 4 : 2};
}

cudaError_t launch_bytes(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                         BlockShape shape, cudaStream_t stream) {
  if (shape.clusters > 0) {
    return w.encoding == TileEncoding::kBase5 ? launch_tokens_base5(w, x, output, shape, stream)
                                              : launch_tokens_planes(w, x, output, shape, stream);
  }
  if (w.encoding == TileEncoding::kBase5) return launch_bytes_base5(w, x, output, shape, stream);
  if (w.planes <= 2) return launch_bytes_planes2(w, x, output, shape, stream);
  if (w.planes <= 4) return launch_bytes_planes4(w, x, output, shape, stream);
  return launch_bytes_planes8(w, x, output, shape, stream);
}

}  // namespace abq::runtime::cuda
