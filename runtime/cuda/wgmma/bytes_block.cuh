// Linears on wgmma u8: packed weight words come to shared memory by bulk copies, become bytes in
// the registers that multiply, and meet the tokens' codes, which stay as they are.
//
// A block is one producer warpgroup (its warps issue the copies; with groups only the first does,
// and the others prepare sums of the tokens' codes) and two consumer warpgroups of 64 rows each.
// Three rings in shared memory, each slot with a "full" and an "empty" barrier:
//
//   codes    128 inputs of the block's tokens, shared by the cluster
//   words    a unit of tiles of the 8 weight tiles: one tile of planes, three of base 5
//   sums     (groups only) the tokens' sums of codes, float, of the groups in 128 inputs; goes with
//            `codes`
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "runtime/cuda/views.h"
#include "runtime/cuda/wgmma/fragments.h"
#include "runtime/cuda/wgmma/ring.cuh"
#include "runtime/cuda/wgmma/schedule.h"

namespace abq::runtime::cuda::wgmma {

inline constexpr int kSteps = kTileDepth / kDepthBytes;            // of a tile, 8
inline constexpr int kStageSteps = kByteStageDepth / kDepthBytes;  // of a slot of codes, 4
inline constexpr int kWordRingBytes = 64 << 10;
inline constexpr int kMaxSlots = 8;

struct BytesArguments {
  WeightTiles weights;
  TokenTiles tokens;
  LinearOutput output;
  Schedule schedule;
  int cluster = 1;
  int k_tiles = 0;
  // Words of a weight tile, in bytes: of a unit, of the last unit, of all K.
  int unit_bytes = 0;
  int last_unit_bytes = 0;
  int64_t row_bytes = 0;
  int word_slots = 0;
};

// Slots of codes: what fits beside 64 KiB of words.
template <int kTokens>
inline constexpr int kCodeSlots = kTokens == 256 ? 5 : kMaxSlots;
// Floats of the sums of a slot: four groups of 32 for each token.
template <int kTokens, bool kGroups>
inline constexpr int kSumBytes = kGroups ? kTokens* kStageSteps * 4 : 0;
template <int kTokens, bool kGroups>
inline constexpr int kSharedBytes = 1024 + kWordRingBytes +
                                    kCodeSlots<kTokens>*(kTokens* kByteStageDepth +
                                                         kSumBytes<kTokens, kGroups>);

// Addresses in shared memory.
struct BytesShared {
  uint32_t codes_full;
  uint32_t codes_empty;
  uint32_t words_full;
  uint32_t words_empty;
  uint32_t words;
  uint32_t codes;
  uint32_t sums;

  __device__ __forceinline__ explicit BytesShared(uint32_t base, uint32_t code_bytes)
      : codes_full(base),
        codes_empty(base + kMaxSlots * 8),
        words_full(base + 2 * kMaxSlots * 8),
        words_empty(base + 3 * kMaxSlots * 8),
        words(base + 1024),
        codes(base + 1024 + kWordRingBytes),
        sums(codes + code_bytes) {}
};

}  // namespace abq::runtime::cuda::wgmma
