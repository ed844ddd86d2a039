// Where the warpgroup instructions of sm_90a expect their operands (PTX ISA, "Asynchronous
// warpgroup level matrix instructions"), as index formulas that host tests can check.
//
// A warpgroup multiplies A [64, k] by B [k, tokens]. Its warp w holds rows 16 w .. 16 w + 15 of A,
// which is one weight tile, and of D. A "depth" is an input of one instruction: 32 bytes or 256
// bits, 32 bytes of B in both cases.
#pragma once

#include <cstdint>

#include "runtime/cuda/views.h"

#ifdef __CUDACC__
#define ABQ_WGMMA_FUNCTION __host__ __device__ __forceinline__
#else
#define ABQ_WGMMA_FUNCTION inline
#endif

namespace abq::runtime::cuda::wgmma {

// tiles_of() (views.h) for both sides.
ABQ_WGMMA_FUNCTION constexpr int count_tiles(int64_t count, int size) {
  return static_cast<int>((count + size - 1) / size);
}

inline constexpr int kDepthBytes = 32;  // of a token, per instruction
// A core matrix of B: 8 tokens of 16 consecutive bytes, 128 bytes without a gap.
inline constexpr int kCoreTokens = 8;
inline constexpr int kCoreDepthBytes = 16;
inline constexpr int kCoreBytes = kCoreTokens * kCoreDepthBytes;

// Row within the warp's 16 of register 0..3 of A, and the depth of its byte or bit.
ABQ_WGMMA_FUNCTION constexpr int a_row(int lane, int reg) {
  return lane / 4 + 8 * (reg % 2);
}
ABQ_WGMMA_FUNCTION constexpr int a_byte_depth(int lane, int reg, int byte) {
  return 16 * (reg / 2) + 4 * (lane % 4) + byte;
}
ABQ_WGMMA_FUNCTION constexpr int a_bit_depth(int lane, int reg, int bit) {
  return 128 * (reg / 2) + 32 * (lane % 4) + bit;
}

// Row within the warp's 16 and token of register 0 .. tokens / 2 - 1 of D.
ABQ_WGMMA_FUNCTION constexpr int d_row(int lane, int reg) {
  return lane / 4 + 8 * (reg / 2 % 2);
}
ABQ_WGMMA_FUNCTION constexpr int d_token(int lane, int reg) {
  return 8 * (reg / 4) + 2 * (lane % 4) + reg % 2;
}

// Distances in bytes between core matrices of B in shared memory.
struct CoreStrides {
  int depth;   // to the next 16 bytes of the same tokens
  int tokens;  // to the next 8 tokens
};
// Place of a byte of B relative to the operand's first core matrix.
ABQ_WGMMA_FUNCTION constexpr int b_offset(CoreStrides strides, int token, int byte) {
  return token / kCoreTokens * strides.tokens + byte / kCoreDepthBytes * strides.depth +
         token % kCoreTokens * kCoreDepthBytes + byte % kCoreDepthBytes;
}
// The operand itself: depth contiguous ("K-major"), no swizzle, 16-byte units.
ABQ_WGMMA_FUNCTION constexpr uint64_t b_descriptor(uint32_t shared_address, CoreStrides strides) {
  return static_cast<uint64_t>((shared_address & 0x3ffffu) >> 4) |
         static_cast<uint64_t>(strides.depth >> 4) << 16 |
         static_cast<uint64_t>(strides.tokens >> 4) << 32;
}

// Byte kernels. A stage holds 128 inputs of the tokens as they lie in TokenTiles.codes: eight core
// matrices of an octet of tokens behind each other.
inline constexpr int kByteStageDepth = 128;
inline constexpr CoreStrides kByteStrides = {kCoreBytes, kCoreBytes* kByteStageDepth / 16};

inline constexpr int kOctetStageBytes = kCoreTokens * kByteStageDepth;
// Place in TokenTiles.codes of an octet's bytes of a stage: kOctetStageBytes of them, which go to
// the octet's place in the slot, octet * kOctetStageBytes.
ABQ_WGMMA_FUNCTION constexpr int64_t octet_stage_source(int64_t octet, int k_tiles, int stage) {
  return octet * k_tiles * (256 * kCoreTokens) + static_cast<int64_t>(stage) * kOctetStageBytes;
}
// Operand of step 0..3 of a stage, relative to the slot.
ABQ_WGMMA_FUNCTION constexpr int step_offset(int step) {
  return step * (kDepthBytes / kCoreDepthBytes) * kByteStrides.depth;
}

// Bit kernels. Tokens keep the word order of TokenTiles.planes, (t, h) at 2 t + h, so lane 4 g + t
// of the instruction takes for depth half c the words of tile lane 2 c + t / 2 and tile half t % 2:
// 8 bytes (rows g and g + 8) at this place of the plane's 512 bytes.
ABQ_WGMMA_FUNCTION constexpr int bit_words_offset(int lane, int depth_half) {
  return lane / 4 * 64 + depth_half * 32 + lane % 4 * 8;
}
// Planes of kPlaneBlockTokens tokens as they lie in TokenTiles.planes.
inline constexpr CoreStrides kBitStrides = {kPlaneBlockTokens * kCoreDepthBytes, kCoreBytes};
// The operand of plane j of a tile, relative to the tile's planes.
ABQ_WGMMA_FUNCTION constexpr int plane_offset(int plane) {
  return plane * (kPlaneBlockTokens * kDepthBytes);
}
// Place in TokenTiles.planes of a tile's planes of a block of tokens: plane_offset(bits) bytes,
// those of the next tile behind them.
ABQ_WGMMA_FUNCTION constexpr int64_t plane_block_source(int64_t block, int k_tiles, int k_tile,
                                                        int bits) {
  return (block * k_tiles + k_tile) * plane_offset(bits);
}

}  // namespace abq::runtime::cuda::wgmma
