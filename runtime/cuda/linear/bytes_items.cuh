// What a warp of the byte kernel of one token works on at once: weights of 16 rows that become
// A registers of m16n8k32 where they are used.
//
// codes: this lane's word of shared memory for the row's first input, 8 words a step of 32 inputs:
// words 0 and 4 are the B registers of halves 0 and 1.
#pragma once

#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/bytes_few.h"
#include "runtime/cuda/linear/mma.cuh"

namespace abq::runtime::cuda {

// Half a unit of base 5: words 0 .. 13 or 14 .. 27 of it and the two sets that are in their bits 0.
// The registers of a half are steps 0 .. 9 and half of step 10, or the other half and steps
// 11 .. 20; those of the two sets are the next step and a half behind the sets of all words.
struct Base5Item {
  static constexpr int kSums = 2;
  static constexpr int kLoads = 4;  // the one in the middle is read for both halves

  uint32_t words[4 * kLoads];

  // The second half of a last unit of one tile would be empty.
  static __device__ __forceinline__ int count(int k_tiles) {
    return 2 * base5_units(k_tiles) - (k_tiles % kBase5UnitTiles == 1 ? 1 : 0);
  }

  __device__ __forceinline__ void load(const WeightTiles& w, int n_tile, int k_tiles, int item,
                                       int lane) {
    const int unit = item / 2;
    const int first = 3 * (item % 2);
    tiles_ = base5_unit_tiles(k_tiles, unit);
    const uint4* const source =
        reinterpret_cast<const uint4*>(w.tiles) + base5_load(n_tile, k_tiles, unit, first, lane);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      uint4 loaded = make_uint4(0, 0, 0, 0);
      if (first + i < base5_loads(tiles_)) loaded = load_streaming(source + i * kLanes);
      words[4 * i] = loaded.x;
      words[4 * i + 1] = loaded.y;
      words[4 * i + 2] = loaded.z;
      words[4 * i + 3] = loaded.w;
    }
  }
  __device__ __forceinline__ void multiply(int item, const uint32_t* codes,
                                           int32_t (&sums)[kSums][4]) const {
    const uint32_t* const from = codes + 8 * kTileSteps * kBase5UnitTiles * (item / 2);
    // Registers 84 .. of three tiles, 60 .. of two; of one there are none, and all codes are 0.
    const uint32_t* const rest = from + 8 * (tiles_ == 3 ? 21 : 15);
    if (item % 2 == 0) {
      multiply_half<0>(from, rest, sums);
    } else {
      multiply_half<1>(from, rest, sums);
    }
  }

 private:
  // `sets` sets, the first register of which is word 2 half of step 0 of `from`.
  template <int half, int sets>
  static __device__ __forceinline__ void multiply_sets(const uint32_t (&from_sets)[sets],
                                                       const uint32_t* from,
                                                       int32_t (&sums)[kSums][4]) {
    constexpr int kSteps = (3 * sets + 2) / 4;
    uint32_t registers[4 * kSteps];
#pragma unroll
    for (int i = 0; i < 2; ++i)
      registers[half == 0 ? 4 * kSteps - 2 + i : i] = 0;
#pragma unroll
    for (int c = 0; c < sets; ++c) {
      const Base5Codes expanded = expand_base5_set(from_sets[c]);
#pragma unroll
      for (int digit = 0; digit < 3; ++digit)
        registers[2 * half + 3 * c + digit] = expanded.digits[digit];
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const uint32_t a[4] = {registers[4 * step], registers[4 * step + 1], registers[4 * step + 2],
                             registers[4 * step + 3]};
      byte_mma(sums[step % 2], a, from[8 * step], from[8 * step + 4]);
    }
  }
  template <int half>
  __device__ __forceinline__ void multiply_half(const uint32_t* from, const uint32_t* rest,
                                                int32_t (&sums)[kSums][4]) const {
    uint32_t own[14];
#pragma unroll
    for (int c = 0; c < 14; ++c)
      own[c] = words[2 * half + c];
    const uint32_t extra[2] = {gather_base5_set(own), gather_base5_set(own + 7)};
    multiply_sets<half>(own, from + 8 * 10 * half, sums);
    multiply_sets<half>(extra, rest + 8 * half, sums);
  }

  int tiles_;
};

}  // namespace abq::runtime::cuda
