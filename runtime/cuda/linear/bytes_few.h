// Which linears the kernel of bytes_few.cuh takes, and its shared memory.
#pragma once

#include "runtime/cuda/linear/base5_tiles.h"

namespace abq::runtime::cuda {

inline constexpr int kFewTokens = 8;
inline constexpr int kFewTermChunks = 12;     // 16-byte chunks of the row terms of a tile
inline constexpr int kFewShared = 99 * 1024;  // bytes of a block, on all devices from sm_80 on
inline constexpr int kFewDefaultShared = 48 * 1024;  // more must be asked for
inline constexpr int kFewDepth = 65536;              // most inputs: shifted sums fit int32

// 32-bit words between rows of codes: an odd number of 16 bytes, so that rows start in other banks.
ABQ_TILE_FUNCTION int few_code_stride(int k_tiles) {
  return 64 * k_tiles + 4;
}
// Rows of codes in shared memory: 1, 2, 4 or 8.
ABQ_TILE_FUNCTION int few_log_rows(int m) {
  return m <= 1 ? 0 : m <= 2 ? 1 : m <= 4 ? 2 : 3;
}
// A tail of base 5 reads (and multiplies by 0) codes beyond the last tile.
ABQ_TILE_FUNCTION int few_padding_tiles(TileEncoding encoding) {
  return encoding == TileEncoding::kBase5 ? kBase5UnitTiles - 1 : 0;
}
inline int few_shared_bytes(const WeightTiles& w, const TokenTiles& x, int block_tiles) {
  const int k_tiles = tiles_of(w.k, kTileDepth) + few_padding_tiles(w.encoding);
  return 4 * ((48 + 128) * block_tiles + (few_code_stride(k_tiles) << few_log_rows(x.m)));
}
inline bool few_fits(const WeightTiles& w, const TokenTiles& x, int block_tiles) {
  if (w.group_size > 0 || x.m > kFewTokens || w.k > kFewDepth) return false;
  const int64_t largest = w.encoding == TileEncoding::kBase5 ? 4 : (1 << w.planes) - 1;
  return largest * ((1 << x.bits) - 1) * w.k < (int64_t{1} << 31) &&
         few_shared_bytes(w, x, block_tiles) <= kFewShared;
}

}  // namespace abq::runtime::cuda
