// Packed weights in a lane's registers, and the operands made from them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/plane_fields.h"
#include "runtime/cuda/wgmma/instructions.cuh"

namespace abq::runtime::cuda::wgmma {

// A lane's words of a unit of its weight tile, and the registers of A made from them: step s of the
// unit's 8 kUnitTiles steps of 32 inputs. They are made ready in kPrepareParts parts, which a
// caller can spread over products. step() may hand out the words themselves: they have to stay
// until the products with them have ended.
inline constexpr int kPrepareParts = 4;

template <int kFields>
struct PlaneWords {
  static constexpr int kUnitTiles = 1;
  uint32_t fields[kFields][4];

  __device__ __forceinline__ void load(uint32_t from, int planes, int, int lane) {
#pragma unroll
    for (int i = 0; i < kFields; ++i) {
      uint4 words = make_uint4(0, 0, 0, 0);
      if (i < planes) words = load_shared_16(from + (i * kLanes + lane) * 16);
      fields[i][0] = words.x;
      fields[i][1] = words.y;
      fields[i][2] = words.z;
      fields[i][3] = words.w;
    }
  }
  __device__ __forceinline__ void prepare_part(int w) {
    merge_planes_of(fields, w);
  }
  __device__ __forceinline__ void step(int s, uint32_t (&registers)[4]) const {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      registers[r] = field_codes(fields, s, r);
      pin(registers[r]);
    }
  }
};

struct Base5Words {
  static constexpr int kUnitTiles = kBase5UnitTiles;
  Base5UnitWords words;
  Base5UnitPlanes planes;  // once prepared

  __device__ __forceinline__ void load(uint32_t from, int, int tiles, int lane) {
#pragma unroll
    for (int i = 0; i < kBase5UnitLoads; ++i) {
      uint4 loaded = make_uint4(0, 0, 0, 0);
      if (i < base5_loads(tiles)) loaded = load_shared_16(from + (i * kLanes + lane) * 16);
      words[i][0] = loaded.x;
      words[i][1] = loaded.y;
      words[i][2] = loaded.z;
      words[i][3] = loaded.w;
    }
  }
  __device__ __forceinline__ void prepare_part(int part) {
    if (part == 0) expand_base5_unit(words, planes);
  }
  // The fields of a tile are the same for its steps: made once where those are written out.
  __device__ __forceinline__ void step(int s, uint32_t (&registers)[4]) const {
    uint32_t fields[4][4];
    merge_base5_planes(planes[s / kTileSteps], fields);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      registers[r] = field_codes(fields, s % kTileSteps, r);
      pin(registers[r]);
    }
  }
};

template <class Words>
__device__ __forceinline__ void prepare(Words& words) {
#pragma unroll
  for (int part = 0; part < kPrepareParts; ++part)
    words.prepare_part(part);
}

}  // namespace abq::runtime::cuda::wgmma
