// The parts of the half kernel for few tokens: places, copies to shared memory, products, sums.
#pragma once

#include "runtime/cuda/half/half_decode_shape.h"
#include "runtime/cuda/half/half_mma.cuh"

namespace abq::runtime::cuda {

struct DecodeArguments {
  HalfArguments half;
  int row_warps;
  int row_reciprocal;  // 2^16 / row_warps + 1: divides warps
  int k_warps;
  int cluster_bits;  // log2 of the blocks of a cluster
  int slice_units;   // slice_begin()
  int longer_slices;
  int column_bits;  // log2 of the existing columns of a block, rounded up
};

// Units that a warp keeps on the way, so that some eight 16-byte loads a lane are.
ABQ_HOST_DEVICE_INLINE constexpr int decode_stages(int loads) {
  return loads > 4 ? 1 : loads == 4 ? 2 : 4;
}

// Where a warp stands.
struct DecodePlace {
  int lane;
  int warp;
  int warps;
  int rank;        // of the block in its cluster
  int first_row;   // first row of tiles of the block
  int n_tile;      // the warp's
  bool exists;     // whether that is a row of tiles
  int first_tile;  // those along k whose activations the block has, and their number
  int tiles;
  int first_unit;  // of the warp's slice
  int last_unit;   // behind its last
};
template <class Codes>
__device__ __forceinline__ DecodePlace decode_place(const DecodeArguments& a) {
  const auto begin = [&](int slice) { return slice_begin(slice, a.slice_units, a.longer_slices); };
  DecodePlace place;
  place.lane = static_cast<int>(threadIdx.x) % kLanes;
  place.warp = static_cast<int>(threadIdx.x) / kLanes;
  place.warps = a.row_warps * a.k_warps;
  place.rank = static_cast<int>(blockIdx.x) & ((1 << a.cluster_bits) - 1);
  const int k_warp = place.warp * a.row_reciprocal >> 16;
  const int first = place.rank * a.k_warps;
  place.first_row = (static_cast<int>(blockIdx.x) >> a.cluster_bits) * a.row_warps;
  place.n_tile = place.first_row + place.warp - k_warp * a.row_warps;
  place.exists = place.n_tile < tiles_of(a.half.weights.n, kTileRows);
  place.first_tile = begin(first) * Codes::kUnitTiles;
  const int last_tile =
      min(begin(first + a.k_warps) * Codes::kUnitTiles, tiles_of(a.half.weights.k, kTileDepth));
  place.tiles = last_tile - place.first_tile;
  place.first_unit = begin(first + k_warp);
  place.last_unit = place.exists ? begin(first + k_warp + 1) : place.first_unit;
  return place;
}

// Starts the copies of the block's part of `columns` columns to shared memory. Columns go to the
// warps in turns; more warps than columns share them.
__device__ __forceinline__ void copy_activations(const HalfTokens& tokens, const DecodePlace& place,
                                                 int column_bits, int first_column, int columns,
                                                 uint4* shared) {
  const int64_t stride = static_cast<int64_t>(tiles_of(tokens.k, kTileDepth)) * kTileDepth;
  const int pieces = place.tiles * (kTileDepth / 4);
  const int parts = max(place.warps >> column_bits, 1);
  const int part = place.warp >> column_bits;
  if (part >= parts) return;
  for (int column = place.warp - (part << column_bits); column < columns; column += place.warps) {
    int p = part * kLanes + place.lane;
    const uint16_t* from = tokens.halves + (first_column + column) * stride +
                           static_cast<int64_t>(place.first_tile) * kTileDepth + 4 * p;
    uint8_t* to = reinterpret_cast<uint8_t*>(shared + column * column_words(place.tiles)) +
                  activation_byte(p);
#pragma unroll 4
    for (; p < pieces; p += parts * kLanes) {
      copy_async<8>(to, from);
      from += parts * kLanes * 4;
      to += parts * activation_byte(kLanes);
    }
  }
}

// Scales and zero points of the groups of a warp's tiles, kGroupStages of them in shared memory,
// each [groups of a tile][16] scales, then zero points.
struct GroupRing {
  const float* scales;  // of the row of tiles
  const int32_t* zeros;
  uint4* slots;
  int groups;  // of a row, and of a tile as a power of two
  int shift;

  __device__ __forceinline__ uint4* slot(int k_tile) const {
    return slots + k_tile % kGroupStages * group_words(1 << shift);
  }
  // Groups beyond the last are its copies: activations are 0 there.
  __device__ __forceinline__ void copy(int k_tile, int lane) const {
    const int half = 4 << shift;  // 16-byte words of scales
    uint4* const to = slot(k_tile);
    for (int i = lane; i < 2 * half; i += kLanes) {
      const int group = min((k_tile << shift) + (i & (half - 1)) / 4, groups - 1);
      const int64_t at = static_cast<int64_t>(group) * kTileRows + i % 4 * 4;
      const void* const from =
          i < half ? static_cast<const void*>(scales + at) : static_cast<const void*>(zeros + at);
      copy_async<16>(to + i, from);
    }
  }
};

// totals += (codes - zeros) of a unit's tile number `tile` times its activations, with groups times
// their scales too. columns: index of this lane's first activations of each block of columns.
// `row_zeros` are those of rows without groups, tile_groups those of the tile with groups; `many`:
// whether more than four blocks of columns exist.
template <class Codes, int kColumns, bool kGrouped>
__device__ __forceinline__ void multiply_tile(const typename Codes::State& state, int tile,
                                              const uint4* shared, const int (&columns)[kColumns],
                                              const uint4* tile_groups, int shift, int g,
                                              const ZeroPair& row_zeros, bool many,
                                              float (&totals)[kColumns][4]) {
  const int last = (kHalfSteps >> shift) - 1;  // step of a group
  const float* const scales = reinterpret_cast<const float*>(tile_groups);
  const int32_t* const zeros = reinterpret_cast<const int32_t*>(tile_groups) + (kTileRows << shift);
  // One block of columns alone: two sums, or each product would wait for the one before.
  constexpr int kChains = kColumns == 1 ? 2 : 1;
  float acc[kChains * kColumns][4];
  float scale[2] = {1, 1};
  ZeroPair minus = row_zeros;
#pragma unroll
  for (int s = 0; s < kHalfSteps; ++s) {
    if (kGrouped ? (s & last) == 0 : s == 0) {
      if (kGrouped) {
        const int entry = ((s << shift) / kHalfSteps) * kTileRows + g;
        minus = zero_pair(zeros, entry);
        scale[0] = scales[entry];
        scale[1] = scales[entry + 8];
      }
#pragma unroll
      for (int i = 0; i < kChains * kColumns * 4; ++i)
        acc[i / 4][i % 4] = 0;
    }
    uint32_t a[2][4];
#pragma unroll
    for (int h = 0; h < 2; ++h)
      expand_step<Codes>(state, minus, tile, s, h, a[h]);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (c >= 4 && !many) break;
      const uint4 b = shared[columns[c] + 4 * s];
      half_mma(acc[c], a[0], make_uint2(b.x, b.y));
      half_mma(acc[c + kChains - 1], a[1], make_uint2(b.z, b.w));
    }
    if (kGrouped ? (s & last) == last : s == kHalfSteps - 1) {
#pragma unroll
      for (int i = 0; i < kColumns * 4; ++i) {
        float sum = acc[i / 4][i % 4];
        if (kChains == 2) sum += acc[kChains - 1][i % 4];
        totals[i / 4][i % 4] += kGrouped ? scale[i % 4 / 2] * sum : sum;
      }
    }
  }
}

// Adds the slices' totals in order and writes the outputs, each block of a cluster some of them.
template <int kColumns>
__device__ __forceinline__ void reduce_and_store(const DecodeArguments& a, const DecodePlace& place,
                                                 int first_token,
                                                 const float (&totals)[kColumns][4], float* sums) {
  constexpr int kWarpSums = 2 * kColumns * kLanes;  // pairs: rows g and g + 8
  const int lane = place.lane;
  __syncthreads();  // the sums lie where activations were
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    float* at = sums + place.warp * kWarpSums + 2 * c * kLanes + lane;
    at[0] = totals[c][0] + totals[c][1];  // high and low part of token lane % 4
    at[kLanes] = totals[c][2] + totals[c][3];
  }
  const int cluster = 1 << a.cluster_bits;
  if (cluster > 1)
    synchronize_cluster();
  else
    __syncthreads();
  const int items = a.row_warps * kColumns;
  for (int item = place.rank * place.warps + place.warp; item < items;
       item += cluster * place.warps) {
    const int row = item / kColumns;
    const int c = item % kColumns;
    const float* const at = sums + row * kWarpSums + 2 * c * kLanes + lane;
    float first = 0;
    float second = 0;
    for (int r = 0; r < cluster; ++r) {
      for (int w = 0; w < a.k_warps; ++w) {
        const float* const from = at + w * a.row_warps * kWarpSums;
        first += cluster > 1 ? load_of_rank(from, r) : from[0];
        second += cluster > 1 ? load_of_rank(from + kLanes, r) : from[kLanes];
      }
    }
    const int token = first_token + kHalfColumnTokens * c + lane % 4;
    const int n_tile = place.first_row + row;
    if (token < a.half.tokens.m && n_tile < tiles_of(a.half.weights.n, kTileRows))
      store_outputs(a.half, n_tile, lane / 4, token, first, second);
  }
  if (cluster > 1) synchronize_cluster();  // nobody leaves while others read its sums
}

}  // namespace abq::runtime::cuda
