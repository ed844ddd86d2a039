// What a warp of the byte kernels loads at once, and how it becomes A registers of m16n8k32: four
// codes a register, step by step along k.
//
//   count(k_tiles)                        units of a row
//   place(w, n_tile, k_tiles, unit, lane) index of a lane's first 16-byte load
//   loads(w, k_tiles, unit)               loads of a lane, one every kLanes
//   load(source, loads)
//   prepare()                             once, then next_tile() before each of the unit's tiles
//   codes(step, word)                     of the tile
//   field(step, word)                     the same codes times 2^(8 / kFields * field_number(step))
#pragma once

#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/mma.cuh"
#include "runtime/cuda/linear/plane_fields.h"

namespace abq::runtime::cuda {

__device__ __forceinline__ void load_words(uint32_t (&words)[4], const uint4* source) {
  const uint4 loaded = load_streaming(source);
  words[0] = loaded.x;
  words[1] = loaded.y;
  words[2] = loaded.z;
  words[3] = loaded.w;
}

// One tile of at most Cap planes; of exactly P, where P > 0.
template <int Cap, int P = 0>
struct PlaneUnit {
  static constexpr int kTiles = 1;
  static constexpr int kLoads = P;
  static constexpr int kSegment = 128;  // units whose sums fit int32 (33,025 inputs do)
  static constexpr int kFields = 8 / Cap;

  uint32_t words[Cap][4];

  static __device__ __host__ __forceinline__ int count(int k_tiles) { return k_tiles; }
  static __device__ __forceinline__ int loads(const WeightTiles& w, int, int) { return w.planes; }
  static __device__ __forceinline__ int64_t place(const WeightTiles& w, int n_tile, int k_tiles,
                                                  int unit, int lane) {
    return plane_load(n_tile, k_tiles, unit, w.planes, 0, lane);
  }

  __device__ __forceinline__ void load(const uint4* source, int loads) {
#pragma unroll
    for (int i = 0; i < Cap; ++i) {
      const bool held = P > 0 ? i < P && loads > 0 : i < loads;
      words[i][0] = words[i][1] = words[i][2] = words[i][3] = 0;
      if (held) load_words(words[i], source + i * kLanes);
    }
  }
  __device__ __forceinline__ void prepare() {
    merge_planes<Cap>(words);
  }
  __device__ __forceinline__ void next_tile() {}
  // Register `word` of step `step` of the tile.
  __device__ __forceinline__ uint32_t codes(int step, int word) const {
    return field_codes<Cap>(words, step, word);
  }
  static __device__ __forceinline__ constexpr int field_number(int step) {
    return step / Cap;
  }
  __device__ __forceinline__ uint32_t field(int step, int word) const {
    return field_in_place<Cap>(words, step, word);
  }
};

// Three tiles of base 5, or the tail of a row.
struct Base5Unit {
  static constexpr int kTiles = kBase5UnitTiles;
  static constexpr int kLoads = kBase5UnitLoads;
  static constexpr int kSegment = 42;
  static constexpr int kFields = 2;

  Base5UnitWords words;
  Base5UnitPlanes planes;  // of the tiles to come, once prepared
  uint32_t fields[4][4];

  static __device__ __host__ __forceinline__ int count(int k_tiles) { return base5_units(k_tiles); }
  static __device__ __forceinline__ int loads(const WeightTiles&, int k_tiles, int unit) {
    return base5_loads(base5_unit_tiles(k_tiles, unit));
  }
  static __device__ __forceinline__ int64_t place(const WeightTiles&, int n_tile, int k_tiles,
                                                  int unit, int lane) {
    return base5_load(n_tile, k_tiles, unit, 0, lane);
  }

  __device__ __forceinline__ void load(const uint4* source, int loads) {
#pragma unroll
    for (int i = 0; i < kBase5UnitLoads; ++i) {
      words[i][0] = words[i][1] = words[i][2] = words[i][3] = 0;
      if (i < loads) load_words(words[i], source + i * kLanes);
    }
  }
  __device__ __forceinline__ void prepare() {
    expand_base5_unit(words, planes);
  }
  __device__ __forceinline__ void next_tile() {
    merge_base5_planes(planes[0], fields);
#pragma unroll
    for (int i = 0; i < (kTiles - 1) * kBase5Planes * 4; ++i) {
      const int plane = i / 4 % kBase5Planes;
      planes[i / 4 / kBase5Planes][plane][i % 4] = planes[i / 4 / kBase5Planes + 1][plane][i % 4];
    }
  }
  __device__ __forceinline__ uint32_t codes(int step, int word) const {
    return field_codes<4>(fields, step, word);
  }
  static __device__ __forceinline__ constexpr int field_number(int step) {
    return step / 4;
  }
  __device__ __forceinline__ uint32_t field(int step, int word) const {
    return field_in_place<4>(fields, step, word);
  }
};

}  // namespace abq::runtime::cuda
