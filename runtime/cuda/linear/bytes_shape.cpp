// Which instance and block of the byte kernels runs a matrix.
#include <algorithm>

#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/bytes_few.h"
#include "runtime/cuda/linear/bytes_launchers.h"

namespace abq::runtime::cuda {

BlockShape bytes_shape(const WeightTiles& w, const TokenTiles& x) {
  const int k_tiles = tiles_of(w.k, kTileDepth);
  const int n_tiles = tiles_of(w.n, kTileRows);
  BlockShape shape;
  if (x.m > 2) {
    // Each block copies the codes of its tokens: two blocks a multiprocessor.
    shape.tiles = std::max(1, std::min(8, tiles_of(n_tiles, 2 * 132)));
  } else {
    shape.tiles = std::max(1, std::min(4, tiles_of(n_tiles, 6 * 132)));
    shape.warps = std::max(4, one_wave_warps(tiles_of(n_tiles, shape.tiles), 3));
  }
  if (!few_fits(w, x, shape.tiles)) shape = {};
  const bool base5 = w.encoding == TileEncoding::kBase5;
  const int units = (base5 ? base5_units(k_tiles) : k_tiles) * shape.tiles;
  shape.warps = std::clamp(units + units % 2, 2, shape.warps);
  return shape;
}

cudaError_t launch_bytes(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                         BlockShape shape, cudaStream_t stream) {
  if (w.encoding == TileEncoding::kBase5) return launch_bytes_base5(w, x, output, shape, stream);
  if (w.planes <= 2) return launch_bytes_planes2(w, x, output, shape, stream);
  if (w.planes <= 4) return launch_bytes_planes4(w, x, output, shape, stream);
  return launch_bytes_planes8(w, x, output, shape, stream);
}

}  // namespace abq::runtime::cuda
