// Balanced 2-bit weights in tiles: three codes in 7 bits.
//
// A unit is three tiles along k (the last of a row may have one or two). In the order of their use
// the registers of a lane, r = 4 * step + word (step = 8 * tile + s of the unit, word as in plane
// tiles: row g + 8 (word & 1), half word >> 1), hold four codes each, in their bytes. Three in a
// row make a set: register r is digit r % 3 of set r / 3. Byte by byte a set stores
//
//   x = 25 digit 0 + 5 digit 1 + digit 2 < 125        as        v = ceil(128 x / 125) < 128,
//
// the fraction x / 125 in 7 bits: 5 v / 128, 25 v / 128 and 125 v / 128, rounded down, are the
// leading one, two and three digits, so that three multiplications by constants expand two bytes.
//
//   tiles of the unit          1     2     3
//   16-byte loads of a lane    3     5     7       2 tiles + 1
//   words of a lane           12    20    28
//   sets                      11    22    32
//
// Set c has bits 7..1 of the four bytes of word c; sets beyond the words are in the bits that this
// leaves: bit i of the 7 bits of set (words + e) is bit 0 of the bytes of word 7 e + i.
//
//   memory:  [n tile][load][lane][4 words], the loads of a row's units one after the other
#pragma once

#include "runtime/cuda/linear/tile_layout.h"

namespace abq::runtime::cuda {

inline constexpr int kBase5UnitTiles = 3;
inline constexpr int kBase5UnitLoads = 7;
inline constexpr int kBase5UnitSets = 32;

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
ABQ_TILE_FUNCTION int base5_words(int tiles) {
  return 4 * base5_loads(tiles);
}
ABQ_TILE_FUNCTION int base5_sets(int tiles) {
  return (32 * tiles + 2) / 3;
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

// Four codes of each of three registers -> the set's bits 7..1 of every byte.
ABQ_TILE_FUNCTION uint32_t pack_base5_set(uint32_t digit0, uint32_t digit1, uint32_t digit2) {
  const uint32_t x = 25 * digit0 + 5 * digit1 + digit2;  // below 125 in each byte: no carries
  uint32_t set = 0;
  for (int b = 0; b < 4; ++b) {
    const uint32_t byte = (x >> (8 * b)) & 0xffu;
    set |= ((128 * byte + 124) / 125) << (8 * b + 1);
  }
  return set;
}
// Set number `c` of a lane whose registers are registers(0 .. 32 tiles - 1).
template <class Registers>
ABQ_TILE_FUNCTION uint32_t base5_set(int tiles, int c, const Registers& registers) {
  const int count = 32 * tiles;
  const int r = 3 * c;
  return pack_base5_set(r < count ? registers(r) : 0u, r + 1 < count ? registers(r + 1) : 0u,
                        r + 2 < count ? registers(r + 2) : 0u);
}
// Word number `c` of a lane of a unit.
template <class Registers>
ABQ_TILE_FUNCTION uint32_t pack_base5_word(int tiles, int c, const Registers& registers) {
  uint32_t word = c < base5_sets(tiles) ? base5_set(tiles, c, registers) : 0u;
  const int extra = base5_words(tiles) + c / 7;
  if (extra < base5_sets(tiles))
    word |= (base5_set(tiles, extra, registers) >> (c % 7 + 1)) & 0x01010101u;
  return word;
}

// The set in bits 0 of seven words.
ABQ_TILE_FUNCTION uint32_t gather_base5_set(const uint32_t* words) {
  uint32_t set = 0;
  ABQ_UNROLL
  for (int i = 0; i < 7; ++i)
    set += (words[i] & 0x01010101u) << (i + 1);
  return set;
}

// Bytes 1 and 3 of both words: those of `even` become bytes 0 and 2, of `odd` bytes 1 and 3.
ABQ_TILE_FUNCTION uint32_t upper_bytes(uint32_t even, uint32_t odd) {
#ifdef __CUDA_ARCH__
  return __byte_perm(even, odd, 0x7351);
#else
  return ((even >> 8) & 0x00ff00ffu) | (odd & 0xff00ff00u);
#endif
}

struct Base5Codes {
  uint32_t digits[3];  // four codes each
};
// Bits 0 of the bytes do not matter.
ABQ_TILE_FUNCTION Base5Codes expand_base5_set(uint32_t set) {
  const uint32_t even = set & 0x00fe00feu;
  const uint32_t odd = (set >> 8) & 0x00fe00feu;
  const uint32_t one = upper_bytes(5 * even, 5 * odd);
  const uint32_t two = upper_bytes(25 * even, 25 * odd);
  const uint32_t three = upper_bytes(125 * even, 125 * odd);
  return {{one, two - 5 * one, three - 5 * two}};
}

// Completes the 32 sets of a lane whose 4 * base5_loads(tiles) words are in front and whose other
// words are 0. Registers r of the unit: expand_base5_set(sets[r / 3]).digits[r % 3].
ABQ_TILE_FUNCTION void gather_base5_sets(int tiles, uint32_t (&sets)[kBase5UnitSets]) {
  if (tiles == 3) {
    sets[28] = gather_base5_set(sets);
    sets[29] = gather_base5_set(sets + 7);
    sets[30] = gather_base5_set(sets + 14);
    sets[31] = gather_base5_set(sets + 21);
  } else if (tiles == 2) {
    sets[20] = gather_base5_set(sets);
    sets[21] = gather_base5_set(sets + 7);
  }
}

}  // namespace abq::runtime::cuda
