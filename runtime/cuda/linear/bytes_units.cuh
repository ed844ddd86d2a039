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
  __device__ __forceinline__ void prepare() {}
  // Tiles of a unit are expanded one after the other.
  __device__ __forceinline__ void next_tile() {
    merge_planes<Cap>(words);
  }
  // Register `word` of step `step` of the tile.
  __device__ __forceinline__ uint32_t codes(int step, int word) const {
    return field_codes<Cap>(words, step, word);
  }
};

// Three tiles of base 5, or the tail of a row.
struct Base5Unit {
  static constexpr int kTiles = kBase5UnitTiles;
  static constexpr int kSegment = 42;

  Base5UnitWords words;
  Base5UnitPlanes planes;  // of the tiles to come, once prepared
  uint32_t fields[4][4];

  static __device__ __forceinline__ int count(int k_tiles) { return base5_units(k_tiles); }

  __device__ __forceinline__ void load(const WeightTiles& w, int n_tile, int k_tiles, int unit,
                                       int lane) {
    const int loads = base5_loads(base5_unit_tiles(k_tiles, unit));
    const uint4* const source =
        reinterpret_cast<const uint4*>(w.tiles) + base5_load(n_tile, k_tiles, unit, 0, lane);
#pragma unroll
    for (int i = 0; i < kBase5UnitLoads; ++i) {
      uint4 loaded = make_uint4(0, 0, 0, 0);
      if (i < loads) loaded = load_streaming(source + i * kLanes);
      words[i][0] = loaded.x;
      words[i][1] = loaded.y;
      words[i][2] = loaded.z;
      words[i][3] = loaded.w;
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
};

}  // namespace abq::runtime::cuda
