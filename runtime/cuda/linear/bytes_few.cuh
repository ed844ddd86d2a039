// cuda.bytes for up to 8 tokens, per channel: the kernel of decode steps.
//
// A block has a few tiles of 16 rows. The codes of its tokens are copied to shared memory once, and
// all fragments of B come from there. The block's items (bytes_items.cuh), tile by tile along k,
// are shared out to its warps in ranges; a warp adds the sums of its part of a tile to those in
// shared memory (integers: the order does not matter).
//
//   shared:  [tile][scale, zero, sum][16]   [tile][16 rows][8 tokens] sums   [row of codes][stride]
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

// The codes of 2^log_rows tokens, row by row.
__device__ __forceinline__ void stage_codes(const TokenTiles& x, int k_tiles, int log_rows,
                                            int stride, uint32_t* codes) {
  const int chunks = (16 * k_tiles) << log_rows;
  for (int i = threadIdx.x; i < chunks; i += blockDim.x) {
    const int token = i & ((1 << log_rows) - 1);
    const int chunk = i >> log_rows;
    copy_async(codes + token * stride + 4 * chunk,
               reinterpret_cast<const uint4*>(x.codes) + 8 * chunk + token);
  }
}

// Adds a warp's sums of a tile to the block's.
template <class Item>
__device__ __forceinline__ void flush_sums(int32_t (&sums)[Item::kSums][4], int lane, int tokens,
                                           int32_t* totals) {
  const int g = lane_row(lane);
  const int column = 2 * lane_column(lane);
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    int32_t total = 0;
#pragma unroll
    for (int i = 0; i < Item::kSums; ++i) {
      total += sums[i][c] >> Item::shift(i);
      sums[i][c] = 0;
    }
    if (column + (c & 1) < tokens)
      atomicAdd(&totals[8 * (g + 8 * (c >> 1)) + column + (c & 1)], total);
  }
}

// D items of a lane under way.
template <class Item, int D, int blocks>
__global__ void __launch_bounds__(32 * kMaxWarps, blocks)
    bytes_few_kernel(const WeightTiles w, const TokenTiles x, const LinearOutput output,
                     int block_tiles, int log_rows) {
  extern __shared__ uint4 shared_bytes[];
  const int lane = threadIdx.x % kLanes;
  const int warp = threadIdx.x / kLanes;
  const int warps = blockDim.x / kLanes;
  const int k_tiles = tiles_of(w.k, kTileDepth);
  const int first_tile = blockIdx.x * block_tiles;
  const int tiles = min(block_tiles, tiles_of(w.n, kTileRows) - first_tile);
  uint32_t* const terms = reinterpret_cast<uint32_t*>(shared_bytes);
  int32_t* const totals = reinterpret_cast<int32_t*>(terms) + 48 * block_tiles;
  uint32_t* const codes = terms + (48 + 128) * block_tiles;
  const int stride = few_code_stride(k_tiles + Item::kPaddingTiles);

  // load_tile: this warp's items are begin .. end - 1.
  const int items = Item::count(k_tiles);
  const int begin = items * tiles * warp / warps;
  const int end = items * tiles * (warp + 1) / warps;
  ItemCursor loading{begin / items, begin % items};
  ItemCursor at = loading;
  Item ring[D];
#pragma unroll
  for (int d = 0; d < D; ++d) {
    if (begin + d >= end) break;
    ring[d].load(w, first_tile + loading.tile, k_tiles, loading.item, lane);
    loading.next(items);
  }
  stage_terms(w, first_tile, tiles, terms);
  for (int i = threadIdx.x; i < 128 * tiles; i += blockDim.x)
    totals[i] = 0;
  const int token = min(static_cast<int>(threadIdx.x & 7), x.m - 1);
  const int row = (threadIdx.x >> 3) & 7;
  const int own_tile = threadIdx.x >> 6;  // of this thread's first outputs
  ResidualPlace place;
  if (own_tile < tiles) place = place_residual(w, output, first_tile + own_tile, row, token);
  compute_now(place);
  release_next();

  // wait_stage: from here on tokens can be read.
  wait_for_previous();
  stage_codes(x, k_tiles, log_rows, stride, codes);
  const TokenTerms token_terms = load_token_terms(x, token);
  ResidualPair residual = read_residual(output, place);
  wait_for_copies();
  __syncthreads();

  // byte_mma. Columns beyond the tokens repeat one of them; nobody reads their sums.
  const uint32_t* const lane_codes =
      codes + min(lane_row(lane), (1 << log_rows) - 1) * stride + lane_column(lane);
  int32_t sums[Item::kSums][4] = {};
  for (int first = begin; first < end; first += D) {
#pragma unroll
    for (int d = 0; d < D; ++d) {
      const int number = first + d;
      if (number >= end) break;
      ring[d].multiply(at.item, lane_codes, sums);
      if (number + D < end) {
        ring[d].load(w, first_tile + loading.tile, k_tiles, loading.item, lane);
        loading.next(items);
      }
      if (at.item + 1 == items || number + 1 == end)
        flush_sums<Item>(sums, lane, x.m, totals + 128 * at.tile);
      at.next(items);
    }
  }
  __syncthreads();

  // epilogue: a thread has the same rows and token in each of its tiles.
  if ((threadIdx.x & 7) >= x.m) return;
  for (int tile = own_tile; tile < tiles; tile += blockDim.x >> 6) {
    if (tile != own_tile) residual = load_residual(w, output, first_tile + tile, row, token);
    RowTerms rows;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t* const from = terms + 48 * tile + row + 8 * i;
      rows.scale[i] = reinterpret_cast<const float*>(from)[0];
      rows.zero[i] = static_cast<int32_t>(from[16]);
      rows.sum[i] = static_cast<int32_t>(from[32]);
    }
    const int32_t* const own = totals + 128 * tile + 8 * row + token;
    finish_pair(w, output, first_tile + tile, row, token, rows, token_terms, residual, own[0],
                own[64]);
  }
}

// `blocks`: of 8 warps, that must fit a multiprocessor's registers.
template <class Item, int D, int blocks>
cudaError_t launch_few(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                       BlockShape shape, cudaStream_t stream) {
  const auto kernel = bytes_few_kernel<Item, D, blocks>;
  const int bytes = few_shared_bytes(w, x, shape.tiles);
  if (bytes > kFewDefaultShared) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kFewShared);
    if (error != cudaSuccess) return error;
  }
  const dim3 grid(static_cast<unsigned>(tiles_of(tiles_of(w.n, kTileRows), shape.tiles)));
  return launch(kernel,
                LaunchShape{grid, dim3(static_cast<unsigned>(kLanes * shape.warps)),
                            static_cast<unsigned>(bytes)},
                stream, w, x, output, shape.tiles, few_log_rows(x.m));
}

}  // namespace abq::runtime::cuda
