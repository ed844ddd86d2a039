// From the words of a weight tile to float16 integers, denominator * code - zero, exactly.
//
// The planes of a lane's word are transposed into fields of 1, 2, 4 or 8 bits that hold whole codes
// (missing planes are zero words). Field word f of kBits words has the codes of the steps s with
// s % kBits == f, each byte b those of input b, step s at bit (s / kBits) * kBits of the byte.
// A register of the multiplication holds inputs 0 and 2, or 1 and 3, of one step: the field is
// masked where it stands, at bit j, into the mantissa of 1024, and one fused multiply-add by 2^-j
// makes it denominator * code - zero: every number on the way is an integer below 2048 or a
// multiple of 2^-j that float16 holds.
#pragma once

#include <cstdint>

#include "runtime/cuda/linear/base5_tiles.h"

namespace abq::runtime::cuda {

inline constexpr int kHalfSteps = kTileSteps;  // of 32 inputs each, in a tile

// `width` bits, repeated every 2 * width.
ABQ_HOST_DEVICE_INLINE constexpr uint32_t alternating_mask(int width) {
  return width == 1 ? 0x55555555u : width == 2 ? 0x33333333u : 0x0f0f0f0fu;
}

// Three-operand logic in one instruction, which the compiler does not find by itself.
ABQ_HOST_DEVICE_INLINE uint32_t merge_bits(uint32_t mask, uint32_t ones, uint32_t zeros) {
#ifdef __CUDA_ARCH__
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xe4;" : "=r"(result) : "r"(ones), "r"(zeros), "r"(mask));
  return result;
#else
  return (ones & mask) | (zeros & ~mask);
#endif
}
ABQ_HOST_DEVICE_INLINE uint32_t and_or(uint32_t value, uint32_t mask, uint32_t bits) {
#ifdef __CUDA_ARCH__
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(value), "r"(mask), "r"(bits));
  return result;
#else
  return (value & mask) | bits;
#endif
}

// words[kBits] -> fields[kBits], by transposing halves first.
template <int kBits>
struct FieldGather {
  ABQ_HOST_DEVICE_INLINE static void run(const uint32_t* words, uint32_t* fields) {
    constexpr int kHalf = kBits / 2;
    constexpr uint32_t kMask = alternating_mask(kHalf);
    uint32_t low[kHalf];
    uint32_t high[kHalf];
    FieldGather<kHalf>::run(words, low);
    FieldGather<kHalf>::run(words + kHalf, high);
    for (int i = 0; i < kHalf; ++i) {
      fields[i] = merge_bits(kMask, low[i], high[i] << kHalf);
      fields[i + kHalf] = merge_bits(kMask, low[i] >> kHalf, high[i]);
    }
  }
};
template <>
struct FieldGather<1> {
  ABQ_HOST_DEVICE_INLINE static void run(const uint32_t* words, uint32_t* fields) {
    fields[0] = words[0];
  }
};

// Single bits are moved up by one, so that 1024 + 2 code leaves room for the denominator 2.
ABQ_HOST_DEVICE_INLINE constexpr int field_lift(int bits) {
  return bits == 1 ? 1 : 0;
}
// Bit of the field of step s in its byte, before the lift.
ABQ_HOST_DEVICE_INLINE constexpr int field_bit(int bits, int s) {
  return s / bits * bits;
}

// 1024 + 2^(bit + lift) * code for the codes of inputs 2i + pair, i = 0, 1, as two float16.
template <int kBits>
ABQ_HOST_DEVICE_INLINE uint32_t biased_pair(uint32_t field, int bit, int pair) {
#ifdef __CUDA_ARCH__
  if (kBits == 8) return __byte_perm(field, 0x64646464u, pair == 0 ? 0x4240 : 0x4341);
#endif
  constexpr int kLift = field_lift(kBits);
  const uint32_t moved = pair == 0 ? field << kLift : field >> (8 - kLift);
  const uint32_t mask = ((1u << kBits) - 1u) << (bit + kLift);
  return and_or(moved, mask | mask << 16, 0x64006400u);
}

// The factor that takes the bias and the place of the field away: 2^-bit, as float16.
ABQ_HOST_DEVICE_INLINE constexpr uint32_t field_factor(int bit) {
  return static_cast<uint32_t>(15 - bit) << 10;
}
// -1024 * 2^-bit as float16: added to minus the zero point.
ABQ_HOST_DEVICE_INLINE constexpr uint32_t field_offset(int bit) {
  return 0x8000u | static_cast<uint32_t>(25 - bit) << 10;
}
ABQ_HOST_DEVICE_INLINE constexpr uint32_t both_halves(uint32_t half) {
  return half | half << 16;
}

// How a unit of tiles along k is loaded and read. Both structs have
//   kUnitTiles, kLoads   most tiles of a unit, and 16-byte loads of a lane for it
//   kFieldBits           width of the fields of field()
//   units, tiles, loads  of a row; of a unit; of a unit
//   load_index           of load `load` of a lane
//   State, gather        what a unit's words become once, field: the field of step s of tile `tile`
//                        of the unit in word `word` of the lane
// Up to kBits planes; those that do not exist are zero words. A unit is one tile.
template <int kBits>
struct PlaneCodes {
  static constexpr int kUnitTiles = 1;
  static constexpr int kLoads = kBits;
  static constexpr int kFieldBits = kBits;
  struct State {
    uint32_t fields[4][kBits];
  };
  static constexpr ABQ_HOST_DEVICE_INLINE int units(int k_tiles) { return k_tiles; }
  static constexpr ABQ_HOST_DEVICE_INLINE int tiles(int, int) { return 1; }
  static constexpr ABQ_HOST_DEVICE_INLINE int loads(int planes, int) { return planes; }
  static constexpr ABQ_HOST_DEVICE_INLINE int64_t load_index(int64_t n_tile, int k_tiles, int unit,
                                                             int planes, int load, int lane) {
    return plane_load(n_tile, k_tiles, unit, planes, load, lane);
  }
  static ABQ_HOST_DEVICE_INLINE void gather(int, const uint32_t (&words)[kLoads][4], State& state) {
    for (int i = 0; i < 4; ++i) {
      uint32_t planes[kBits];
      for (int p = 0; p < kBits; ++p)
        planes[p] = words[p][i];
      FieldGather<kBits>::run(planes, state.fields[i]);
    }
  }
  static ABQ_HOST_DEVICE_INLINE uint32_t field(const State& state, int, int s, int word) {
    return state.fields[word][s % kBits];
  }
};

// Base-5 tiles: three planes each; the fields of a tile are made where its steps are used.
struct Base5HalfCodes {
  static constexpr int kUnitTiles = kBase5UnitTiles;
  static constexpr int kLoads = kBase5UnitLoads;
  static constexpr int kFieldBits = 4;
  struct State {
    Base5UnitPlanes planes;
  };
  static constexpr ABQ_HOST_DEVICE_INLINE int units(int k_tiles) { return base5_units(k_tiles); }
  static constexpr ABQ_HOST_DEVICE_INLINE int tiles(int k_tiles, int unit) {
    return base5_unit_tiles(k_tiles, unit);
  }
  static constexpr ABQ_HOST_DEVICE_INLINE int loads(int, int tiles) { return base5_loads(tiles); }
  static constexpr ABQ_HOST_DEVICE_INLINE int64_t load_index(int64_t n_tile, int k_tiles, int unit,
                                                             int, int load, int lane) {
    return base5_load(n_tile, k_tiles, unit, load, lane);
  }
  static ABQ_HOST_DEVICE_INLINE void gather(int, const Base5UnitWords& words, State& state) {
    expand_base5_unit(words, state.planes);
  }
  static ABQ_HOST_DEVICE_INLINE uint32_t field(const State& state, int tile, int s, int word) {
    const uint32_t planes[kFieldBits] = {state.planes[tile][0][word], state.planes[tile][1][word],
                                         state.planes[tile][2][word], 0};
    uint32_t fields[kFieldBits];
    FieldGather<kFieldBits>::run(planes, fields);
    return fields[s % kFieldBits];
  }
};

}  // namespace abq::runtime::cuda
