// Tiles of keys and values in shared memory: copied from the cache and, where it holds codes,
// expanded to float16 there.
#pragma once

#include "runtime/cuda/attention/cached_values.cuh"

namespace abq::runtime::cuda {

inline constexpr int kFlashWarps = 4;
inline constexpr int kFlashQueries = 16 * kFlashWarps;
inline constexpr int kFlashThreads = 32 * kFlashWarps;

template <int kPadded>
struct FlashShape {
  static constexpr int kKeys = kPadded <= 128 ? 64 : 32;
  static constexpr int kChunks = kPadded / 8;  // of 16 bytes in a row of float16
  static constexpr int kTileChunks = kKeys * kChunks;
};

template <int kPadded, bool kCoded>
struct FlashShared;
template <int kPadded>
struct FlashShared<kPadded, false> {
  uint4 queries[kFlashQueries * kPadded / 8];
  uint4 tiles[2][2][FlashShape<kPadded>::kTileChunks];  // [buffer][keys, values]
};
template <int kPadded>
struct FlashShared<kPadded, true> {
  using Shape = FlashShape<kPadded>;
  uint4 queries[kFlashQueries * kPadded / 8];
  uint4 tiles[2][Shape::kTileChunks];
  uint4 packed[2][Shape::kTileChunks / 2];  // rows as the cache has them, up to 8 bits
  float2 params[2][Shape::kKeys];
  float key_scales[Shape::kKeys];
  float exponents[Shape::kKeys];  // of the values' scales, see split_scale()
  float mantissas[Shape::kKeys];
  float inverse_powers[Shape::kKeys];
};

// Bytes 4 i .. 4 i + 3 of the codes in a word, in order.
template <int kStored>
__device__ __forceinline__ uint32_t four_codes(uint32_t word, int i) {
  if constexpr (kStored == 8) {
    return word;
  } else if constexpr (kStored == 4) {
    return __byte_perm(word & 0x0f0f0f0fu, (word >> 4) & 0x0f0f0f0fu, i == 0 ? 0x5140 : 0x7362);
  } else {
    const unsigned zip = i < 2 ? 0x5140 : 0x7362;
    const uint32_t low = __byte_perm(word & 0x03030303u, (word >> 2) & 0x03030303u, zip);
    const uint32_t high = __byte_perm((word >> 4) & 0x03030303u, (word >> 6) & 0x03030303u, zip);
    return __byte_perm(low, high, i % 2 == 0 ? 0x5410 : 0x7632);
  }
}
__device__ __forceinline__ uint32_t two_halves(uint32_t bytes, unsigned selector, __half2 offset) {
  const uint32_t halves = __byte_perm(bytes, 0x64646464u, selector);
  const __half2 difference = __hsub2(*reinterpret_cast<const __half2*>(&halves), offset);
  return *reinterpret_cast<const uint32_t*>(&difference);
}

// Expands the packed rows of keys (which = 0) or values to float16 in the swizzled tile.
template <int kPadded, int kStored>
__device__ __forceinline__ void expand_rows(FlashShared<kPadded, true>& shared, int which) {
  constexpr int kPieces = kPadded * kStored / 128;  // of 16 bytes in a row
  constexpr int kCodes = 32 / kStored;              // of a word
  for (int i = static_cast<int>(threadIdx.x); i < FlashShape<kPadded>::kKeys * kPieces;
       i += kFlashThreads) {
    const int row = i / kPieces;
    const uint4 piece = shared.packed[which][i];
    const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
    const float zero = shared.params[which][row].y;
    const __half2 offset = code_offset(zero, zero);
#pragma unroll
    for (int chunk = 0; chunk < 16 / kStored; ++chunk) {
      uint32_t halves[4];
#pragma unroll
      for (int q = 0; q < 2; ++q) {  // quads of a chunk
        const int code = 8 * chunk + 4 * q;
        const uint32_t bytes = four_codes<kStored>(words[code / kCodes], code % kCodes / 4);
        halves[2 * q] = two_halves(bytes, 0x4140, offset);
        halves[2 * q + 1] = two_halves(bytes, 0x4342, offset);
      }
      const int column = i % kPieces * (16 / kStored) + chunk;
      shared.tiles[which][swizzled_chunk(row, column, kPadded)] =
          make_uint4(halves[0], halves[1], halves[2], halves[3]);
    }
  }
}

// Starts copying keys and values first .. first + kKeys - 1; rows from `end` on repeat the last.
template <int kPadded>
__device__ __forceinline__ void load_tile(const CacheHead& cache, int first, int end, int buffer,
                                          int /*row_bytes*/, FlashShared<kPadded, false>& shared) {
  using Shape = FlashShape<kPadded>;
#pragma unroll
  for (int which = 0; which < 2; ++which) {
    const CacheRows& from = which == 0 ? cache.keys : cache.values;
    const uint4* const rows = reinterpret_cast<const uint4*>(from.rows);
    for (int i = static_cast<int>(threadIdx.x); i < Shape::kTileChunks; i += kFlashThreads) {
      const int row = i / Shape::kChunks;
      const int chunk = i % Shape::kChunks;
      copy_async<16>(
          &shared.tiles[buffer][which][swizzled_chunk(row, chunk, kPadded)],
          rows + static_cast<int64_t>(min(first + row, end - 1)) * Shape::kChunks + chunk);
    }
  }
  commit_copies();
}
template <int kPadded>
__device__ __forceinline__ void load_tile(const CacheHead& cache, int first, int end,
                                          int /*buffer*/, int row_bytes,
                                          FlashShared<kPadded, true>& shared) {
  constexpr int kKeys = FlashShape<kPadded>::kKeys;
  const int pieces = row_bytes / 16;
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int which = 0; which < 2; ++which) {
    const CacheRows& from = which == 0 ? cache.keys : cache.values;
    const uint4* const rows = reinterpret_cast<const uint4*>(from.rows);
    for (int i = thread; i < kKeys * pieces; i += kFlashThreads) {
      const int64_t row = min(first + i / pieces, end - 1);
      copy_async<16>(&shared.packed[which][i], rows + row * pieces + i % pieces);
    }
    if (thread < kKeys)
      copy_async<8>(&shared.params[which][thread], from.params + min(first + thread, end - 1));
  }
  commit_copies();
}

template <int kPadded>
__device__ __forceinline__ void expand_tile(FlashShared<kPadded, true>& shared, int stored) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < FlashShape<kPadded>::kKeys) {
    shared.key_scales[thread] = shared.params[0][thread].x;
    const ScaleParts parts = split_scale(shared.params[1][thread].x);
    shared.exponents[thread] = parts.exponent;
    shared.mantissas[thread] = parts.mantissa;
    shared.inverse_powers[thread] = parts.inverse_power;
  }
  for (int which = 0; which < 2; ++which) {
    if (stored == 8) expand_rows<kPadded, 8>(shared, which);
    if (stored == 4) expand_rows<kPadded, 4>(shared, which);
    if (stored == 2) expand_rows<kPadded, 2>(shared, which);
  }
}

}  // namespace abq::runtime::cuda
