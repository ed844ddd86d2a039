// Bit planes -> codes in bytes, for a lane's words of one tile: a transpose of bits within bytes,
// by exchanges of halves. Cap = 2, 4 or 8 planes; fewer are padded with zero words.
#pragma once

#include "runtime/cuda/linear/tile_layout.h"

namespace abq::runtime::cuda {

// Bits of a where the mask has ones, else those of b.
ABQ_TILE_FUNCTION uint32_t select_bits(uint32_t mask, uint32_t a, uint32_t b) {
  return (a & mask) | (b & ~mask);
}

// Words [plane] of one (row, half), w = 0..3, become words of fields: Cap bits wide, the codes of
// step s at bits Cap * (s / Cap) of every byte of word s % Cap.
template <int Cap>
ABQ_TILE_FUNCTION void merge_planes_of(uint32_t (&words)[Cap][4], int w) {
  ABQ_UNROLL
  for (int i = 0; i < Cap; i += 2) {  // pairs of planes: fields of 2 bits, even and odd steps
    const uint32_t low = words[i][w];
    const uint32_t high = words[i + 1][w];
    words[i][w] = select_bits(0x55555555u, low, high << 1);
    words[i + 1][w] = select_bits(0x55555555u, low >> 1, high);
  }
  if constexpr (Cap >= 4) {
    ABQ_UNROLL
    for (int i = 0; i < Cap; i += 4) {  // fields of 4 bits: steps s, s + 4 for s = 0..3
      for (int odd = 0; odd < 2; ++odd) {
        const uint32_t low = words[i + odd][w];
        const uint32_t high = words[i + 2 + odd][w];
        words[i + odd][w] = select_bits(0x33333333u, low, high << 2);
        words[i + 2 + odd][w] = select_bits(0x33333333u, low >> 2, high);
      }
    }
  }
  if constexpr (Cap == 8) {
    ABQ_UNROLL
    for (int i = 0; i < 4; ++i) {  // whole bytes
      const uint32_t low = words[i][w];
      const uint32_t high = words[i + 4][w];
      words[i][w] = select_bits(0x0f0f0f0fu, low, high << 4);
      words[i + 4][w] = select_bits(0x0f0f0f0fu, low >> 4, high);
    }
  }
}
// All four.
template <int Cap>
ABQ_TILE_FUNCTION void merge_planes(uint32_t (&words)[Cap][4]) {
  ABQ_UNROLL
  for (int w = 0; w < 4; ++w)
    merge_planes_of(words, w);
}

// Four codes of step s from merged words.
template <int Cap>
ABQ_TILE_FUNCTION uint32_t field_codes(const uint32_t (&words)[Cap][4], int step, int w) {
  constexpr uint32_t kMask = Cap == 8 ? 0xffffffffu : Cap == 4 ? 0x0f0f0f0fu : 0x03030303u;
  return (words[step % Cap][w] >> (Cap * (step / Cap) % 8)) & kMask;
}

// The same times 2^(Cap * (step / Cap)): where they lie.
template <int Cap>
ABQ_TILE_FUNCTION uint32_t field_in_place(const uint32_t (&words)[Cap][4], int step, int w) {
  constexpr uint32_t kMask = Cap == 8 ? 0xffffffffu : Cap == 4 ? 0x0f0f0f0fu : 0x03030303u;
  return words[step % Cap][w] & (kMask << (Cap * (step / Cap)));
}

}  // namespace abq::runtime::cuda
