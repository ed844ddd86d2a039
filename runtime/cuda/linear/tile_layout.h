// Where the words of plane tiles and of quantized tokens lie (docs/cuda_runtime.md has the
// pictures): shared by packers, kernels and the tests that emulate both on the host.
#pragma once

#include <cstdint>

#include "runtime/cuda/views.h"

#ifdef __CUDACC__
#define ABQ_TILE_FUNCTION __host__ __device__ constexpr
#else
#define ABQ_TILE_FUNCTION constexpr
#endif

// For loops of functions that the host compiler sees too.
#ifdef __CUDA_ARCH__
#define ABQ_UNROLL _Pragma("unroll")
#else
#define ABQ_UNROLL
#endif

namespace abq::runtime::cuda {

inline constexpr int kTileSteps = 8;  // steps of 32 inputs

// Lane 4 g + t of a tile; word w = 0..3 of it: row g + 8 (w & 1), half w >> 1.
ABQ_TILE_FUNCTION int lane_row(int lane) {
  return lane >> 2;
}
ABQ_TILE_FUNCTION int lane_column(int lane) {
  return lane & 3;
}
ABQ_TILE_FUNCTION int word_row(int lane, int word) {
  return lane_row(lane) + 8 * (word & 1);
}
// First of the four consecutive inputs of a tile that register `word` of step `step` holds.
ABQ_TILE_FUNCTION int register_input(int lane, int word, int step) {
  return 32 * step + 16 * (word >> 1) + 4 * lane_column(lane);
}

// Index of a 16-byte load in a matrix of plane tiles.
ABQ_TILE_FUNCTION int64_t plane_load(int64_t n_tile, int k_tiles, int k_tile, int planes, int plane,
                                     int lane) {
  return ((n_tile * k_tiles + k_tile) * planes + plane) * kLanes + lane;
}

// Index of the 8-byte pair (h = 0, 1) of plane j of a token, one of at most kTokenColumns: a
// token's planes lie together, as the kernels read them that have a column for each plane.
ABQ_TILE_FUNCTION int64_t token_plane_pair(int64_t token, int k_tiles, int k_tile, int bits,
                                           int plane, int t) {
  return ((token * k_tiles + k_tile) * bits + plane) * 4 + t;
}
// The same for one of more: the operand of wgmma b1 in one piece, 16 bytes a row.
ABQ_TILE_FUNCTION int64_t block_plane_pair(int64_t token, int k_tiles, int k_tile, int bits,
                                           int plane, int t) {
  const int64_t half = ((token / kPlaneBlockTokens * k_tiles + k_tile) * bits + plane) * 2 + t / 2;
  return (half * kPlaneBlockTokens + token % kPlaneBlockTokens) * 2 + t % 2;
}
// The same for one of m.
ABQ_TILE_FUNCTION int64_t plane_pair(int m, int64_t token, int k_tiles, int k_tile, int bits,
                                     int plane, int t) {
  return m <= kTokenColumns ? token_plane_pair(token, k_tiles, k_tile, bits, plane, t)
                            : block_plane_pair(token, k_tiles, k_tile, bits, plane, t);
}
// Index of the byte of code k of a token.
ABQ_TILE_FUNCTION int64_t token_code(int64_t token, int k_tiles, int64_t k) {
  return ((token / 8 * 16 * k_tiles + k / 16) * 8 + token % 8) * 16 + k % 16;
}

// Row of the tiles that row `row` of part `part` becomes: interleaved by eights when gated, else
// stacked (`first` = rows of the parts before).
ABQ_TILE_FUNCTION int64_t tile_row(bool gated, int part, int64_t first, int64_t row) {
  return gated ? 16 * (row / 8) + 8 * part + row % 8 : first + row;
}

}  // namespace abq::runtime::cuda
