// Which linears the kernel of bytes_few.cuh takes, and its shared memory.
#pragma once

#include "runtime/cuda/linear/base5_tiles.h"

namespace abq::runtime::cuda {

inline constexpr int kFewTermChunks = 12;     // 16-byte chunks of the row terms of a tile
inline constexpr int kFewShared = 48 * 1024;  // bytes that a block gets without asking
inline constexpr int kFewPaddingTiles = kBase5UnitTiles - 1;  // a tail reads codes of a whole unit

inline int few_shared_bytes(const WeightTiles& w, int block_tiles) {
  const int k_tiles = tiles_of(w.k, kTileDepth) + kFewPaddingTiles;
  return 4 * ((48 + 16) * block_tiles + 64 * k_tiles);
}
// One token, base 5, per channel, within shared memory and int32.
inline bool few_fits(const WeightTiles& w, const TokenTiles& x, int block_tiles) {
  return w.encoding == TileEncoding::kBase5 && w.group_size == 0 && x.m == 1 &&
         int64_t{4} * ((1 << x.bits) - 1) * w.k < (int64_t{1} << 31) &&
         few_shared_bytes(w, block_tiles) <= kFewShared;
}

}  // namespace abq::runtime::cuda
