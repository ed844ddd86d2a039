// What a warp of the byte kernels loads at once, and how it becomes A registers of m16n8k32: four
// codes a register, step by step along k.
#pragma once

#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/mma.cuh"
#include "runtime/cuda/linear/plane_fields.h"

namespace abq::runtime::cuda {

// One tile of at most Cap planes.
template <int Cap>
struct PlaneUnit {
  static constexpr int kTiles = 1;
  static constexpr int kRounds = 8;
  static constexpr int kRoundSteps = 1;
  static constexpr int kShortUnroll = 8;
  static constexpr int kSegment = 128;  // units whose sums fit int32 (33,025 inputs do)

  uint32_t words[Cap][4];

  static __device__ __forceinline__ int count(int k_tiles) { return k_tiles; }

  __device__ __forceinline__ void load(const WeightTiles& w, int n_tile, int k_tiles, int unit,
                                       int lane) {
    const uint4* const source = reinterpret_cast<const uint4*>(w.tiles) +
                                plane_load(n_tile, k_tiles, unit, w.planes, 0, lane);
#pragma unroll
    for (int i = 0; i < Cap; ++i) {
      uint4 loaded = make_uint4(0, 0, 0, 0);
      if (i < w.planes) loaded = load_streaming(source + i * kLanes);
      words[i][0] = loaded.x;
      words[i][1] = loaded.y;
      words[i][2] = loaded.z;
      words[i][3] = loaded.w;
    }
  }
  __device__ __forceinline__ void prepare() {
    merge_planes<Cap>(words);
  }
  __device__ __forceinline__ void expand(int round, uint32_t (&codes)[kRoundSteps][4]) const {
#pragma unroll
    for (int word = 0; word < 4; ++word)
      codes[0][word] = field_codes<Cap>(words, round, word);
  }
  template <int rounds>
  __device__ __forceinline__ void drop() {}
};

// Three tiles of base 5, or the tail of a row.
struct Base5Unit {
  static constexpr int kTiles = kBase5UnitTiles;
  static constexpr int kRounds = 8;
  static constexpr int kRoundSteps = 3;   // of four sets
  static constexpr int kShortUnroll = 2;  // rounds written out where code would grow too long
  static constexpr int kSegment = 42;

  uint32_t sets[kBase5UnitSets];
  int tiles;

  static __device__ __forceinline__ int count(int k_tiles) { return base5_units(k_tiles); }

  __device__ __forceinline__ void load(const WeightTiles& w, int n_tile, int k_tiles, int unit,
                                       int lane) {
    tiles = base5_unit_tiles(k_tiles, unit);
    const uint4* const source =
        reinterpret_cast<const uint4*>(w.tiles) + base5_load(n_tile, k_tiles, unit, 0, lane);
#pragma unroll
    for (int i = 0; i < kBase5UnitLoads; ++i) {
      uint4 loaded = make_uint4(0, 0, 0, 0);
      if (i < base5_loads(tiles)) loaded = load_streaming(source + i * kLanes);
      sets[4 * i] = loaded.x;
      sets[4 * i + 1] = loaded.y;
      sets[4 * i + 2] = loaded.z;
      sets[4 * i + 3] = loaded.w;
    }
#pragma unroll
    for (int i = 4 * kBase5UnitLoads; i < kBase5UnitSets; ++i)
      sets[i] = 0;
  }
  __device__ __forceinline__ void prepare() {
    gather_base5_sets(tiles, sets);
  }
  // Registers beyond the unit's tiles are 0.
  __device__ __forceinline__ void expand(int round, uint32_t (&codes)[kRoundSteps][4]) const {
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      const Base5Codes expanded = expand_base5_set(sets[4 * round + x]);
#pragma unroll
      for (int digit = 0; digit < 3; ++digit)
        codes[(3 * x + digit) / 4][(3 * x + digit) % 4] = expanded.digits[digit];
    }
  }
  // Moves the sets behind the first rounds to the front.
  template <int rounds>
  __device__ __forceinline__ void drop() {
#pragma unroll
    for (int i = 0; i + 4 * rounds < kBase5UnitSets; ++i)
      sets[i] = sets[i + 4 * rounds];
  }
};

}  // namespace abq::runtime::cuda
