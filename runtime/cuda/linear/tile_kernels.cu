#include "runtime/cuda/linear/tile_kernels.h"

#include <cuda_runtime.h>

#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/tile_layout.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kThreads = 256;

// Blocks along x cover `columns` items of a row, along y rows (by strides: the grid is bounded).
dim3 grid_of(int64_t columns, int64_t rows) {
  const int64_t y = rows < 65535 ? rows : 65535;
  return dim3(static_cast<unsigned>((columns + kThreads - 1) / kThreads), static_cast<unsigned>(y));
}

__device__ __forceinline__ int64_t column_index() {
  return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

__device__ __forceinline__ uint8_t* code_row(const CodeRows& to, const RowMap& map, int64_t row) {
  return to.codes + tile_row(map.gated, map.part, map.first, row) * kTileDepth * to.k_tiles;
}

__device__ __forceinline__ void report(FirstRow* faults, FaultKind kind, const RowMap& map,
                                       int64_t row) {
  atomicMin(faults + kind, static_cast<FirstRow>(map.part_row + row));
}

// A thread turns the 32 codes of one word of each plane into bytes.
__global__ void unpack_planes_kernel(const uint8_t* packed, int planes, int64_t plane_bytes,
                                     RowMap map, CodeRows to, FirstRow* faults) {
  const int64_t word = column_index();
  if (word >= 8 * to.k_tiles) return;
  const int64_t left = to.k - 32 * word;  // codes of this word that exist
  const uint32_t padding = left >= 32 ? 0u : left <= 0 ? ~0u : ~0u << left;
  for (int64_t row = blockIdx.y; row < map.rows; row += gridDim.y) {
    uint32_t codes[8] = {};
    uint32_t wrong = 0;
    if (4 * word < plane_bytes) {
      for (int plane = 0; plane < planes; ++plane) {
        const uint32_t bits = *reinterpret_cast<const uint32_t*>(
            packed + (row * planes + plane) * plane_bytes + 4 * word);
        wrong |= bits & padding;
#pragma unroll
        for (int i = 0; i < 8; ++i)  // bits 0..3 to bits 0, 8, 16, 24
          codes[i] |= ((((bits >> (4 * i)) & 0xfu) * 0x00204081u) & 0x01010101u) << plane;
      }
    }
    if (wrong != 0) report(faults, kPaddingFault, map, row);
    uint4* const out = reinterpret_cast<uint4*>(code_row(to, map, row) + 32 * word);
    out[0] = make_uint4(codes[0], codes[1], codes[2], codes[3]);
    out[1] = make_uint4(codes[4], codes[5], codes[6], codes[7]);
  }
}

// A thread turns one word of `count` digits into bytes; words beyond the last code are padding.
template <int base, int count, int bits>
__global__ void unpack_dense_kernel(const uint8_t* packed, int64_t row_bytes, RowMap map,
                                    CodeRows to, FirstRow* faults) {
  const int64_t word = column_index();
  const int64_t columns = static_cast<int64_t>(kTileDepth) * to.k_tiles;
  const int64_t first_byte = bits * word / 8;
  if (count * word >= columns && first_byte >= row_bytes) return;
  constexpr unsigned kWords = count == 3 ? base * base * base : base * base * base * base * base;
  for (int64_t row = blockIdx.y; row < map.rows; row += gridDim.y) {
    const uint8_t* const source = packed + row * row_bytes;
    unsigned two = 0;
    if (first_byte < row_bytes) two = source[first_byte];
    if (first_byte + 1 < row_bytes) two |= static_cast<unsigned>(source[first_byte + 1]) << 8;
    // The last word of a row can be cut short by its end: the bits that remain are read as they
    // are.
    unsigned value = (two >> (bits * word % 8)) & ((1u << bits) - 1u);
    const int64_t code = count * word;
    if (value >= kWords) report(faults, code < to.k ? kWordFault : kPaddingFault, map, row);
    uint8_t* const out = code_row(to, map, row);
    for (int digit = 0; digit < count; ++digit) {
      const unsigned rest = value % base;
      value /= base;
      if (code + digit >= to.k && rest != 0) report(faults, kPaddingFault, map, row);
      if (code + digit < columns)
        out[code + digit] = static_cast<uint8_t>(code + digit < to.k ? rest : 0);
    }
  }
}

// 32 random bits for each counter (the finalizer of MurmurHash3 on two halves).
__device__ __forceinline__ uint32_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdu;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53u;
  return static_cast<uint32_t>(x >> 32);
}

__global__ void random_codes_kernel(int levels, uint64_t seed, RowMap map, CodeRows to) {
  const int64_t four = column_index();
  if (four >= 64 * to.k_tiles) return;
  for (int64_t row = blockIdx.y; row < map.rows; row += gridDim.y) {
    const uint32_t bits =
        mix(seed + static_cast<uint64_t>((map.part_row + row) * 64 * to.k_tiles + four + 1) *
                       0x9e3779b97f4a7c15u);
    uint32_t codes = 0;
    for (int b = 0; b < 4; ++b) {
      const uint32_t code = (((bits >> (8 * b)) & 0xffu) * static_cast<uint32_t>(levels)) >> 8;
      if (4 * four + b < to.k) codes |= code << (8 * b);
    }
    reinterpret_cast<uint32_t*>(code_row(to, map, row))[four] = codes;
  }
}

__device__ __forceinline__ int64_t param_index(const RowMap& map, int64_t row, int group,
                                               int groups) {
  const int64_t at = tile_row(map.gated, map.part, map.first, row);
  return (at / kTileRows * groups + group) * kTileRows + at % kTileRows;
}

__global__ void place_params_kernel(const float* scales, const uint8_t* zeros, int groups,
                                    float denominator, int levels, RowMap map, float* tile_scales,
                                    int32_t* tile_zeros, FirstRow* faults) {
  const int group = static_cast<int>(column_index());
  if (group >= groups) return;
  for (int64_t row = blockIdx.y; row < map.rows; row += gridDim.y) {
    const float scale = scales[row * groups + group];
    const int zero = zeros[row * groups + group];
    if (!(scale > 0.0f) || isinf(scale)) report(faults, kScaleFault, map, row);
    if (zero >= levels) report(faults, kZeroFault, map, row);
    const int64_t at = param_index(map, row, group, groups);
    tile_scales[at] = scale / denominator;
    tile_zeros[at] = zero;
  }
}

__global__ void random_params_kernel(int groups, float scale, int zero, RowMap map,
                                     float* tile_scales, int32_t* tile_zeros) {
  const int group = static_cast<int>(column_index());
  if (group >= groups) return;
  for (int64_t row = blockIdx.y; row < map.rows; row += gridDim.y) {
    const int64_t at = param_index(map, row, group, groups);
    tile_scales[at] = scale;
    tile_zeros[at] = zero;
  }
}

// A warp adds up the codes of one row and group.
__global__ void sum_codes_kernel(CodeRows from, int groups, int length, int32_t* sums) {
  const int lane = threadIdx.x % kLanes;
  const int64_t item = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  if (item >= from.rows * groups) return;
  const int64_t row = item / groups;
  const int group = static_cast<int>(item % groups);
  const uint8_t* const codes =
      from.codes + row * kTileDepth * from.k_tiles + static_cast<int64_t>(group) * length;
  int32_t sum = 0;
  // Codes beyond k are 0, so a row without groups may be read in whole words.
  for (int i = 4 * lane; i < length; i += 4 * kLanes)
    sum = static_cast<int32_t>(__dp4a(*reinterpret_cast<const uint32_t*>(codes + i), 0x01010101u,
                                      static_cast<uint32_t>(sum)));
  for (int offset = 16; offset > 0; offset /= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  if (lane == 0) sums[(row / kTileRows * groups + group) * kTileRows + row % kTileRows] = sum;
}

// The registers of a lane of an n-tile, in the order of their use: four codes each.
struct LaneCodes {
  const CodeRows& from;
  int64_t n_tile;
  int first_step;
  int lane;

  __host__ __device__ __forceinline__ uint32_t operator()(int r) const {
    const int64_t row = n_tile * kTileRows + word_row(lane, r % 4);
    return *reinterpret_cast<const uint32_t*>(from.codes + row * kTileDepth * from.k_tiles +
                                              register_input(lane, r % 4, first_step + r / 4));
  }
};

// A thread makes a lane's words of all planes of one tile.
__global__ void pack_planes_kernel(CodeRows from, int planes, uint4* tiles) {
  const int64_t item = column_index();
  const int64_t n_tiles = from.rows / kTileRows;
  if (item >= n_tiles * from.k_tiles * kLanes) return;
  const int lane = static_cast<int>(item % kLanes);
  const int k_tile = static_cast<int>(item / kLanes % from.k_tiles);
  const int64_t n_tile = item / kLanes / from.k_tiles;
  const LaneCodes registers{from, n_tile, kTileSteps * k_tile, lane};
  uint32_t words[8][4] = {};
  for (int step = 0; step < kTileSteps; ++step) {
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      const uint32_t codes = registers(4 * step + word);
#pragma unroll
      for (int plane = 0; plane < 8; ++plane)
        words[plane][word] |= ((codes >> plane) & 0x01010101u) << step;
    }
  }
#pragma unroll
  for (int plane = 0; plane < 8; ++plane) {
    if (plane >= planes) break;
    tiles[plane_load(n_tile, from.k_tiles, k_tile, planes, plane, lane)] =
        make_uint4(words[plane][0], words[plane][1], words[plane][2], words[plane][3]);
  }
}

// A thread makes a lane's words of one unit.
__global__ void pack_base5_kernel(CodeRows from, uint4* tiles) {
  const int64_t item = column_index();
  const int64_t n_tiles = from.rows / kTileRows;
  const int units = base5_units(from.k_tiles);
  if (item >= n_tiles * units * kLanes) return;
  const int lane = static_cast<int>(item % kLanes);
  const int unit = static_cast<int>(item / kLanes % units);
  const int64_t n_tile = item / kLanes / units;
  const int unit_tiles = base5_unit_tiles(from.k_tiles, unit);
  const LaneCodes registers{from, n_tile, kTileSteps * kBase5UnitTiles * unit, lane};
  Base5UnitWords words;
  pack_base5_unit(unit_tiles, registers, words);
#pragma unroll
  for (int i = 0; i < kBase5UnitLoads; ++i) {
    if (i >= base5_loads(unit_tiles)) break;
    tiles[base5_load(n_tile, from.k_tiles, unit, i, lane)] =
        make_uint4(words[i][0], words[i][1], words[i][2], words[i][3]);
  }
}

}  // namespace

cudaError_t unpack_planes(const uint8_t* packed, int planes, int64_t plane_bytes, const RowMap& map,
                          const CodeRows& to, FirstRow* faults, cudaStream_t stream) {
  unpack_planes_kernel<<<grid_of(8 * to.k_tiles, map.rows), kThreads, 0, stream>>>(
      packed, planes, plane_bytes, map, to, faults);
  return cudaGetLastError();
}

cudaError_t unpack_dense(const uint8_t* packed, int base, int64_t row_bytes, const RowMap& map,
                         const CodeRows& to, FirstRow* faults, cudaStream_t stream) {
  const int64_t columns = static_cast<int64_t>(kTileDepth) * to.k_tiles;
  // Words that hold codes or padding, whichever reach further.
  if (base == 5) {
    const int64_t words = columns / 3 + row_bytes * 8 / 7 + 2;
    unpack_dense_kernel<5, 3, 7>
        <<<grid_of(words, map.rows), kThreads, 0, stream>>>(packed, row_bytes, map, to, faults);
  } else {
    const int64_t words = columns / 5 + row_bytes + 1;
    unpack_dense_kernel<3, 5, 8>
        <<<grid_of(words, map.rows), kThreads, 0, stream>>>(packed, row_bytes, map, to, faults);
  }
  return cudaGetLastError();
}

cudaError_t random_codes(int levels, uint64_t seed, const RowMap& map, const CodeRows& to,
                         cudaStream_t stream) {
  random_codes_kernel<<<grid_of(64 * to.k_tiles, map.rows), kThreads, 0, stream>>>(levels, seed,
                                                                                   map, to);
  return cudaGetLastError();
}

cudaError_t place_params(const float* scales, const uint8_t* zeros, int groups, int denominator,
                         int levels, const RowMap& map, float* tile_scales, int32_t* tile_zeros,
                         FirstRow* faults, cudaStream_t stream) {
  place_params_kernel<<<grid_of(groups, map.rows), kThreads, 0, stream>>>(
      scales, zeros, groups, static_cast<float>(denominator), levels, map, tile_scales, tile_zeros,
      faults);
  return cudaGetLastError();
}

cudaError_t random_params(int groups, int denominator, int levels, int k, const RowMap& map,
                          float* tile_scales, int32_t* tile_zeros, cudaStream_t stream) {
  const float scale =
      sqrtf(12.0f / static_cast<float>(k)) / static_cast<float>(levels * denominator);
  const int zero = denominator > 1 ? 1 : levels / 2;
  random_params_kernel<<<grid_of(groups, map.rows), kThreads, 0, stream>>>(groups, scale, zero, map,
                                                                           tile_scales, tile_zeros);
  return cudaGetLastError();
}

cudaError_t sum_codes(const CodeRows& from, int groups, int32_t* sums, cudaStream_t stream) {
  const int length = groups == 1 ? kTileDepth * from.k_tiles : from.k / groups;
  const int64_t blocks = (from.rows * groups * kLanes + kThreads - 1) / kThreads;
  sum_codes_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(from, groups, length,
                                                                           sums);
  return cudaGetLastError();
}

cudaError_t pack_plane_tiles(const CodeRows& from, int planes, uint32_t* tiles,
                             cudaStream_t stream) {
  const int64_t items = from.rows / kTileRows * from.k_tiles * kLanes;
  pack_planes_kernel<<<static_cast<unsigned>((items + kThreads - 1) / kThreads), kThreads, 0,
                       stream>>>(from, planes, reinterpret_cast<uint4*>(tiles));
  return cudaGetLastError();
}

cudaError_t pack_base5_tiles(const CodeRows& from, uint32_t* tiles, cudaStream_t stream) {
  const int64_t items = from.rows / kTileRows * base5_units(from.k_tiles) * kLanes;
  pack_base5_kernel<<<static_cast<unsigned>((items + kThreads - 1) / kThreads), kThreads, 0,
                      stream>>>(from, reinterpret_cast<uint4*>(tiles));
  return cudaGetLastError();
}

}  // namespace abq::runtime::cuda
