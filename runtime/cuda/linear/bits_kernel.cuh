// The kernel of cuda.bits where the planes of all tokens fit the 8 columns of mma m16n8k256
// .and.popc: one token of 8 bits, or a few of fewer.
//
// A block has 16 rows; its warps share K. Every lane starts its weight loads before it waits for
// the kernel ahead. Counts stay exact in int32 until activation planes are combined: one column is
// at most 255 K < 2^31.
//
// Warp: what a warp of the block does with its share of K,
//   kBlocks                            of 8 warps, that must fit a multiprocessor's registers
//   start(w, n_tile, warp, warps, lane)  first loads of weights, counts of 0
//   load_fragments(column, stride)     the tokens' words that go with the loads under way: those of
//                                      k tile t are column[t * stride]
//   busy(), multiply()                 the products of the loads under way, and the loads behind
//   sum(c)                             element c of C with the weights' planes combined
#pragma once

#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/linear/epilogue.cuh"
#include "runtime/cuda/linear/launchers.h"
#include "runtime/cuda/linear/mma.cuh"
#include "runtime/cuda/linear/tile_layout.h"

namespace abq::runtime::cuda {

// Sum over the 8 lanes that hold the planes of a token, plane j in lane j.
template <class T>
__device__ __forceinline__ T combine_planes(int32_t sum, int j) {
  T total = static_cast<T>(sum) << j;
#pragma unroll
  for (int offset = 1; offset < 8; offset *= 2)
    total += __shfl_xor_sync(kAllLanes, total, offset);
  return total;
}

// What a thread needs for its outputs, loaded ahead of their sums.
struct FirstTerms {
  RowTerms rows;
  TokenTerms token;
  ResidualPair residual;
};

// Sums of the warps: [warp][row][column].
using BitSums = int32_t[kMaxWarps][16][8];

// One token of 8 bits: lanes j = 0..7 hold its planes.
__device__ __forceinline__ void finish_token(const WeightTiles& w, const LinearOutput& output,
                                             const FirstTerms& terms, const BitSums& partial,
                                             int warps) {
  if (threadIdx.x >= 64) return;
  const bool fits_int32 = w.k <= 33025;  // 255 * 255 K < 2^31
  const int g = threadIdx.x >> 3;
  const int j = threadIdx.x & 7;
  int32_t low = 0;
  int32_t high = 0;
#pragma unroll
  for (int warp = 0; warp < kMaxWarps; ++warp) {
    if (warp < warps) {
      low += partial[warp][g][j];
      high += partial[warp][g + 8][j];
    }
  }
  const int64_t first =
      fits_int32 ? combine_planes<int32_t>(low, j) : combine_planes<int64_t>(low, j);
  const int64_t second =
      fits_int32 ? combine_planes<int32_t>(high, j) : combine_planes<int64_t>(high, j);
  if (j == 0)
    finish_pair(w, output, blockIdx.x, g, 0, terms.rows, terms.token, terms.residual, first,
                second);
}

// Any activation width.
__device__ __forceinline__ void finish_columns(const WeightTiles& w, const TokenTiles& x,
                                               const LinearOutput& output, const RowTerms& rows,
                                               BitSums& partial, int warps) {
  for (int i = threadIdx.x; i < 16 * 8; i += blockDim.x) {
    int32_t sum = 0;
    for (int warp = 0; warp < warps; ++warp)
      sum += partial[warp][i / 8][i % 8];
    partial[0][i / 8][i % 8] = sum;
  }
  __syncthreads();
  const int token = threadIdx.x & 7;
  const int g = threadIdx.x >> 3;
  if (g >= 8 || token >= x.m) return;
  int64_t low = 0;
  int64_t high = 0;
  for (int j = 0; j < x.bits; ++j) {
    low += static_cast<int64_t>(partial[0][g][token * x.bits + j]) << j;
    high += static_cast<int64_t>(partial[0][g + 8][token * x.bits + j]) << j;
  }
  finish_pair(w, output, blockIdx.x, g, token, rows, load_token_terms(x, token),
              load_residual(w, output, blockIdx.x, g, token), low, high);
}

template <class Warp>
__global__ void __launch_bounds__(32 * kMaxWarps, Warp::kBlocks)
    bits_kernel(const WeightTiles w, const TokenTiles x, const LinearOutput output) {
  __shared__ BitSums partial;
  const int lane = threadIdx.x % kLanes;
  const int warp = threadIdx.x / kLanes;
  const int warps = blockDim.x / kLanes;
  const int g = lane_row(lane);
  const int t = lane_column(lane);

  // load_tile: all loads that fit the registers, ahead of everything else.
  Warp self;
  self.start(w, blockIdx.x, warp, warps, lane);
  FirstTerms terms;
  terms.rows = load_row_terms(w, blockIdx.x, 0, (threadIdx.x >> 3) & 7);
  // Columns beyond the tokens repeat the first; nobody reads their sums.
  const int column = g < x.m * x.bits ? g : 0;
  int64_t pair =
      token_plane_pair(column / x.bits, tiles_of(w.k, kTileDepth), 0, x.bits, column % x.bits, t);
  compute_now(pair);
  ResidualPlace place = place_residual(w, output, blockIdx.x, (threadIdx.x >> 3) & 7, 0);
  compute_now(place);
  release_next();

  // wait_stage: from here on tokens can be read.
  wait_for_previous();
  const uint2* const fragments = reinterpret_cast<const uint2*>(x.planes) + pair;
  self.load_fragments(fragments, 4 * x.bits);
  terms.token = load_token_terms(x, 0);
  terms.residual = read_residual(output, place);

  // bit_mma
  while (self.busy()) {
    self.multiply();
    self.load_fragments(fragments, 4 * x.bits);
  }

  // combine_planes, reduce
  *reinterpret_cast<int2*>(&partial[warp][g][2 * t]) = make_int2(self.sum(0), self.sum(1));
  *reinterpret_cast<int2*>(&partial[warp][g + 8][2 * t]) = make_int2(self.sum(2), self.sum(3));
  __syncthreads();

  // epilogue
  if (x.bits == 8) {
    finish_token(w, output, terms, partial, warps);
  } else {
    finish_columns(w, x, output, terms.rows, partial, warps);
  }
}

// At least 2 warps: 64 threads finish the rows.
template <class Warp>
cudaError_t start_bits(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                       BlockShape shape, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(tiles_of(w.n, kTileRows));
  return launch(bits_kernel<Warp>,
                LaunchShape{dim3(blocks), dim3(static_cast<unsigned>(kLanes * shape.warps))},
                stream, w, x, output);
}

}  // namespace abq::runtime::cuda
