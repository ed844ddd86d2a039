// Balanced 2-bit weights in tiles: three codes in 7 bits, sliced so that bit logic alone makes
// planes of them.
//
// A unit is three tiles along k. In a plane word each bit position is one code; the same position
// of the same word in the unit's tiles is three codes A, B, C < 5. Their planes (a code is plane 0
// + 2 plane 1 + 4 plane 2) are held by 7 stored words: a flag s and three 2-bit fields a, b, c,
// their high bits first. A code is small (0..3, the low bits of its planes) or 4:
//
//   s = 0          A = a, B = b, C = c
//   s = 1, a = 0   C = 4, A = b, B = c
//          a = 1   B = 4, A = b, C = c
//          a = 2   A = 4, B = b, C = c
//          a = 3   b = 0, 1, 2: C, B, A = c and the other two 4;   b = 3: all 4
//
// Load i of a lane has stored word i: component w for the codes in word w of the tiles. The last
// unit of a row may have one or two tiles. The codes of those that it lacks are 0, so that c, and
// with one tile b, is 0 too, and not stored:
//
//   tiles of the unit          1     2     3
//   16-byte loads of a lane    3     5     7       2 tiles + 1
//
//   memory:  [n tile][load][lane][4 words], the loads of a row's units one after the other
#pragma once

#include "runtime/cuda/linear/plane_fields.h"

namespace abq::runtime::cuda {

inline constexpr int kBase5UnitTiles = 3;
inline constexpr int kBase5UnitLoads = 7;
inline constexpr int kBase5Planes = 3;

ABQ_TILE_FUNCTION int base5_units(int k_tiles) {
  return (k_tiles + kBase5UnitTiles - 1) / kBase5UnitTiles;
}
// Tiles of unit `unit`: 3, or what is left.
ABQ_TILE_FUNCTION int base5_unit_tiles(int k_tiles, int unit) {
  const int left = k_tiles - kBase5UnitTiles * unit;
  return left < kBase5UnitTiles ? left : kBase5UnitTiles;
}
ABQ_TILE_FUNCTION int base5_loads(int tiles) {
  return 2 * tiles + 1;
}
// Loads of a lane for a whole row.
ABQ_TILE_FUNCTION int base5_row_loads(int k_tiles) {
  const int tail = k_tiles % kBase5UnitTiles;
  return kBase5UnitLoads * (k_tiles / kBase5UnitTiles) + (tail > 0 ? base5_loads(tail) : 0);
}
// Index of a 16-byte load in a matrix of base-5 tiles.
ABQ_TILE_FUNCTION int64_t base5_load(int64_t n_tile, int k_tiles, int unit, int load, int lane) {
  return (n_tile * base5_row_loads(k_tiles) + kBase5UnitLoads * unit + load) * kLanes + lane;
}

// The plane words of A, B, C -> the stored words s, a, b, c.
ABQ_TILE_FUNCTION void pack_base5_triple(const uint32_t (&planes)[kBase5UnitTiles][kBase5Planes],
                                         uint32_t (&stored)[kBase5UnitLoads]) {
  const uint32_t large_a = planes[0][2];
  const uint32_t large_b = planes[1][2];
  const uint32_t large_c = planes[2][2];
  const uint32_t any = large_a | large_b | large_c;
  const uint32_t many = (large_a & large_b) | (large_a & large_c) | (large_b & large_c);
  const uint32_t moved = large_b | large_c;  // A is in b
  const uint32_t flags[2] = {large_b, large_a};
  const uint32_t small[2] = {large_c & large_a, large_c & large_b};  // b where a = 3
  stored[0] = any;
  for (int bit = 0; bit < 2; ++bit) {
    const uint32_t a = planes[0][bit];
    const uint32_t b = planes[1][bit];
    const uint32_t c = planes[2][bit];
    stored[2 - bit] = many | flags[bit] | (~any & a);
    stored[4 - bit] = (many & small[bit]) | (~many & ((moved & a) | (~moved & b)));
    stored[6 - bit] = (many & (a | b | c)) | (~many & ((large_c & b) | (~large_c & c)));
  }
}

// The stored words -> the plane words of A, B, C: 19 instructions of three-operand logic.
ABQ_TILE_FUNCTION void expand_base5_triple(const uint32_t (&stored)[kBase5UnitLoads],
                                           uint32_t (&planes)[kBase5UnitTiles][kBase5Planes]) {
  const uint32_t s = stored[0];
  const uint32_t a1 = stored[1];
  const uint32_t a0 = stored[2];
  const uint32_t b1 = stored[3];
  const uint32_t b0 = stored[4];
  const uint32_t c_gives_b = s & ~(a1 ^ a0);  // a is 0 or 3
  const uint32_t large_a = s & a1 & ~(a0 & b1 & ~b0);
  const uint32_t large_b = s & a0 & ~(a1 & ~b1 & b0);
  const uint32_t large_c = c_gives_b & ~(a0 & ~b1 & ~b0);
  ABQ_UNROLL
  for (int bit = 0; bit < 2; ++bit) {
    const uint32_t a = stored[2 - bit];
    const uint32_t b = stored[4 - bit];
    const uint32_t c = stored[6 - bit];
    planes[0][bit] = ((s & ((a1 & c) | (~a1 & b))) | (~s & a)) & ~large_a;
    planes[1][bit] = ((c_gives_b & c) | (~c_gives_b & b)) & ~large_b;
    planes[2][bit] = c & ~large_c;
  }
  planes[0][2] = large_a;
  planes[1][2] = large_b;
  planes[2][2] = large_c;
}

// A lane's words of a unit as they are loaded, and its tiles' plane words.
using Base5UnitWords = uint32_t[kBase5UnitLoads][4];
using Base5UnitPlanes = uint32_t[kBase5UnitTiles][kBase5Planes][4];

// The words of a unit whose registers, r = 4 * step + word along its tiles, have four codes each;
// 0 beyond its loads.
template <class Registers>
ABQ_TILE_FUNCTION void pack_base5_unit(int tiles, const Registers& registers,
                                       Base5UnitWords& words) {
  ABQ_UNROLL
  for (int w = 0; w < 4; ++w) {
    uint32_t planes[kBase5UnitTiles][kBase5Planes] = {};
    ABQ_UNROLL
    for (int tile = 0; tile < kBase5UnitTiles; ++tile) {
      if (tile >= tiles) break;
      ABQ_UNROLL
      for (int step = 0; step < kTileSteps; ++step) {
        const uint32_t codes = registers(4 * (kTileSteps * tile + step) + w);
        ABQ_UNROLL
        for (int plane = 0; plane < kBase5Planes; ++plane)
          planes[tile][plane] |= ((codes >> plane) & 0x01010101u) << step;
      }
    }
    uint32_t stored[kBase5UnitLoads] = {};
    pack_base5_triple(planes, stored);
    ABQ_UNROLL
    for (int i = 0; i < kBase5UnitLoads; ++i)
      words[i][w] = stored[i];
  }
}

// The planes of a unit's tiles. Words beyond its loads are 0, and so are the planes of tiles that
// it lacks.
ABQ_TILE_FUNCTION void expand_base5_unit(const Base5UnitWords& words, Base5UnitPlanes& planes) {
  ABQ_UNROLL
  for (int w = 0; w < 4; ++w) {
    uint32_t stored[kBase5UnitLoads] = {};
    uint32_t triple[kBase5UnitTiles][kBase5Planes] = {};
    ABQ_UNROLL
    for (int i = 0; i < kBase5UnitLoads; ++i)
      stored[i] = words[i][w];
    expand_base5_triple(stored, triple);
    ABQ_UNROLL
    for (int i = 0; i < kBase5UnitTiles * kBase5Planes; ++i)
      planes[i / kBase5Planes][i % kBase5Planes][w] = triple[i / kBase5Planes][i % kBase5Planes];
  }
}

// Planes of a tile -> fields of 4 bits (plane_fields.h).
ABQ_TILE_FUNCTION void merge_base5_planes(const uint32_t (&planes)[kBase5Planes][4],
                                          uint32_t (&fields)[4][4]) {
  ABQ_UNROLL
  for (int w = 0; w < 4; ++w) {
    ABQ_UNROLL
    for (int plane = 0; plane < kBase5Planes; ++plane)
      fields[plane][w] = planes[plane][w];
    fields[kBase5Planes][w] = 0;
  }
  merge_planes(fields);
}

}  // namespace abq::runtime::cuda
