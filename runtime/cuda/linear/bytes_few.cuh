// cuda.bytes for one token and base 5, per channel: the kernel of decode steps.
//
// A block has a few tiles of 16 rows. The codes of the token are copied to shared memory once, and
// all fragments of B come from there. The block's items (bytes_items.cuh), tile by tile along k,
// are shared out to its warps in ranges; a warp adds the sums of its part of a tile to those in
// shared memory (integers: the order does not matter).
//
//   shared:  [tile][scale, zero, sum][16]   [tile][16 rows] sums   [codes]
#pragma once

#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/linear/bytes_few.h"
#include "runtime/cuda/linear/bytes_items.cuh"
#include "runtime/cuda/linear/epilogue.cuh"
#include "runtime/cuda/linear/launchers.h"

namespace abq::runtime::cuda {

// Where in the block's items a warp is.
struct ItemCursor {
  int tile;
  int item;

  __device__ __forceinline__ void next(int items) {
    if (++item == items) {
      item = 0;
      ++tile;
    }
  }
};

// The row terms of the block's tiles, 16 bytes a thread and turn.
__device__ __forceinline__ void stage_terms(const WeightTiles& w, int first_tile, int tiles,
                                            uint32_t* terms) {
  for (int i = threadIdx.x; i < kFewTermChunks * tiles; i += blockDim.x) {
    const int tile = i / kFewTermChunks;
    const int array = i % kFewTermChunks / 4;
    const void* const from = array == 0   ? static_cast<const void*>(w.scales)
                             : array == 1 ? static_cast<const void*>(w.zeros)
                                          : static_cast<const void*>(w.sums);
    copy_async(terms + 4 * i, static_cast<const uint4*>(from) + 4 * (first_tile + tile) + i % 4);
  }
}

// The codes of the token: 16 bytes of each octet.
__device__ __forceinline__ void stage_codes(const TokenTiles& x, int k_tiles, uint32_t* codes) {
  for (int i = threadIdx.x; i < 16 * k_tiles; i += blockDim.x)
    copy_async(codes + 4 * i, reinterpret_cast<const uint4*>(x.codes) + 8 * i);
}

// Adds a warp's sums of a tile to the block's. All columns of B are the token: the first counts.
__device__ __forceinline__ void flush_sums(int32_t (&sums)[Base5Item::kSums][4], int lane,
                                           int32_t* totals) {
  int32_t low = 0;
  int32_t high = 0;
#pragma unroll
  for (int i = 0; i < Base5Item::kSums; ++i) {
    low += sums[i][0];
    high += sums[i][2];
#pragma unroll
    for (int c = 0; c < 4; ++c)
      sums[i][c] = 0;
  }
  if (lane_column(lane) != 0) return;
  atomicAdd(&totals[lane_row(lane)], low);
  atomicAdd(&totals[lane_row(lane) + 8], high);
}

inline constexpr int kFewDepth = 2;   // items of a lane under way
inline constexpr int kFewBlocks = 3;  // of 8 warps, that must fit a multiprocessor's registers

__global__ void __launch_bounds__(32 * kMaxWarps, kFewBlocks)
    bytes_few_kernel(const WeightTiles w, const TokenTiles x, const LinearOutput output,
                     int block_tiles) {
  extern __shared__ uint4 shared_bytes[];
  const int lane = threadIdx.x % kLanes;
  const int warp = threadIdx.x / kLanes;
  const int warps = blockDim.x / kLanes;
  const int k_tiles = tiles_of(w.k, kTileDepth);
  const int first_tile = blockIdx.x * block_tiles;
  const int tiles = min(block_tiles, tiles_of(w.n, kTileRows) - first_tile);
  uint32_t* const terms = reinterpret_cast<uint32_t*>(shared_bytes);
  int32_t* const totals = reinterpret_cast<int32_t*>(terms) + 48 * block_tiles;
  uint32_t* const codes = terms + (48 + 16) * block_tiles;

  // load_tile: this warp's items are begin .. end - 1.
  const int items = Base5Item::count(k_tiles);
  const int begin = items * tiles * warp / warps;
  const int end = items * tiles * (warp + 1) / warps;
  ItemCursor loading{begin / items, begin % items};
  ItemCursor at = loading;
  Base5Item ring[kFewDepth];
#pragma unroll
  for (int d = 0; d < kFewDepth; ++d) {
    if (begin + d >= end) break;
    ring[d].load(w, first_tile + loading.tile, k_tiles, loading.item, lane);
    loading.next(items);
  }
  stage_terms(w, first_tile, tiles, terms);
  for (int i = threadIdx.x; i < kTileRows * tiles; i += blockDim.x)
    totals[i] = 0;
  const int row = threadIdx.x & 7;
  const int own_tile = threadIdx.x >> 3;  // of this thread's outputs, if there is one
  ResidualPlace place;
  if (own_tile < tiles) place = place_residual(w, output, first_tile + own_tile, row, 0);
  compute_now(place);
  release_next();

  // wait_stage: from here on tokens can be read.
  wait_for_previous();
  stage_codes(x, k_tiles, codes);
  const TokenTerms token_terms = load_token_terms(x, 0);
  const ResidualPair residual = read_residual(output, place);
  wait_for_copies();
  __syncthreads();

  // byte_mma
  const uint32_t* const lane_codes = codes + lane_column(lane);
  int32_t sums[Base5Item::kSums][4] = {};
  for (int first = begin; first < end; first += kFewDepth) {
#pragma unroll
    for (int d = 0; d < kFewDepth; ++d) {
      const int number = first + d;
      if (number >= end) break;
      ring[d].multiply(at.item, lane_codes, sums);
      if (number + kFewDepth < end) {
        ring[d].load(w, first_tile + loading.tile, k_tiles, loading.item, lane);
        loading.next(items);
      }
      if (at.item + 1 == items || number + 1 == end)
        flush_sums(sums, lane, totals + kTileRows * at.tile);
      at.next(items);
    }
  }
  __syncthreads();

  // epilogue: a thread has two rows of one tile.
  if (own_tile >= tiles) return;
  RowTerms rows;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t* const from = terms + 48 * own_tile + row + 8 * i;
    rows.scale[i] = reinterpret_cast<const float*>(from)[0];
    rows.zero[i] = static_cast<int32_t>(from[16]);
    rows.sum[i] = static_cast<int32_t>(from[32]);
  }
  const int32_t* const own = totals + kTileRows * own_tile + row;
  finish_pair(w, output, first_tile + own_tile, row, 0, rows, token_terms, residual, own[0],
              own[8]);
}

inline cudaError_t launch_few(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                              BlockShape shape, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(tiles_of(tiles_of(w.n, kTileRows), shape.tiles)));
  return launch(bytes_few_kernel,
                LaunchShape{grid, dim3(static_cast<unsigned>(kLanes * shape.warps)),
                            static_cast<unsigned>(few_shared_bytes(w, shape.tiles))},
                stream, w, x, output, shape.tiles);
}

}  // namespace abq::runtime::cuda
