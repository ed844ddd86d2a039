// cuda.bits for 2 to 8 tokens. A block of 8 columns of B is one plane j of all tokens, so what
// plane i of the weights and plane j of the tokens give is added up per i + j, in the instruction:
// P + B - 1 sums, combined inside a lane once per row tile.
//
// bits_tokens.h says which warp has what. Weights of the first row tiles are under way before the
// kernel ahead has finished; tokens are read once.
#pragma once

#include "runtime/cuda/linear/bits_tokens.h"
#include "runtime/cuda/linear/epilogue.cuh"
#include "runtime/cuda/linear/mma.cuh"
#include "runtime/cuda/tokens/cluster.cuh"

namespace abq::runtime::cuda {

// The products of a k-tile: P planes of weights, B (or fewer) of tokens.
template <int P, int B>
struct BitsTokensWarp {
  static constexpr int kSums = P + B - 1;
  // Row tiles of a lane under way.
  static constexpr int kDepth = P <= 2 ? 4 : P == 3 || B == 4 ? 3 : 2;

  uint4 words[kDepth][P];
  uint2 fragments[B];

  __device__ __forceinline__ void load(int slot, const uint4* from) {
#pragma unroll
    for (int i = 0; i < P; ++i)
      words[slot][i] = load_streaming(from + i * kLanes);
  }

  // What this lane reads of k-tile `k_tile`: the planes of its column's token.
  static __device__ __forceinline__ int64_t place(const TokenTiles& x, int k_tiles, int k_tile,
                                                  int lane) {
    return token_plane_pair(min(lane_row(lane), x.m - 1), k_tiles, k_tile, x.bits, 0,
                            lane_column(lane));
  }
  __device__ __forceinline__ void load_tokens(const TokenTiles& x, int64_t place, int lane) {
    const uint2* const pair = reinterpret_cast<const uint2*>(x.planes) + place;
    const int count = lane_row(lane) < x.m ? x.bits : 0;
#pragma unroll
    for (int j = 0; j < B; ++j) {
      fragments[j] = make_uint2(0, 0);
      if (j < count) fragments[j] = pair[4 * j];
    }
  }

  // All products of a row tile, in the order of a slot.
  __device__ __forceinline__ int4 multiply(int slot) const {
    int32_t sums[kSums][4] = {};
#pragma unroll
    for (int i = 0; i < P; ++i)
#pragma unroll
      for (int j = 0; j < B; ++j)
        bit_mma(sums[i + j], words[slot][i], fragments[j]);
    int32_t total[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      total[c] = sums[kSums - 1][c];
#pragma unroll
      for (int s = kSums - 2; s >= 0; --s)
        total[c] = 2 * total[c] + sums[s][c];
    }
    return make_int4(total[0], total[2], total[1], total[3]);
  }
};

// Sums in shared memory, and their way to other blocks.
struct Slots {
  int4* memory;
  ByteCounter* counter;

  // All threads, before any is sent: `bytes` will arrive.
  __device__ __forceinline__ void start(const TokensGrid& grid, int bytes) const {
    if (grid.cluster_log2 == 0) return;
    if (threadIdx.x == 0) counter->expect(static_cast<uint32_t>(bytes));
    start_cluster();
  }

  __device__ __forceinline__ int4 sum(int first, int count, int lane) const {
    int4 total = make_int4(0, 0, 0, 0);
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      const int4 one = memory[(first + i) * kLanes + lane];
      total.x += one.x;
      total.y += one.y;
      total.z += one.z;
      total.w += one.w;
    }
    return total;
  }

  // All threads: the sums of the block's first `warps` warps to the owners of their row tiles.
  __device__ __forceinline__ void send(const TokensGrid& grid, int rows, int rank,
                                       int warps) const {
    const int lane = threadIdx.x % kLanes;
    for (int row = threadIdx.x / kLanes; row < rows; row += grid.warps()) {
      const int4 total = sum(grid.slot(row), warps, lane);
      int4* const to = memory + (grid.arrival(grid.own_number(row)) + rank) * kLanes;
      const int owner = grid.owner(row);
      store_counted(in_block(to + lane, owner), total, in_block(counter, owner));
    }
  }
};

// Sum over `count` slots.
__device__ __forceinline__ int2 sum_slots(const int2* pair, int count) {
  int2 sum = make_int2(0, 0);
#pragma unroll 4
  for (int i = 0; i < count; ++i) {
    const int2 one = pair[kSlotBytes / 8 * i];
    sum.x += one.x;
    sum.y += one.y;
  }
  return sum;
}

// What a thread needs for its first outputs, loaded ahead of their sums.
struct FirstPair {
  int n_tile, row, token;
  RowTerms rows;
  ResidualPlace place;
  TokenTerms terms;
  ResidualPair residual;
};

template <int P, int B>
__global__ void __launch_bounds__(kLanes* kMaxTokenWarps, 1)
    bits_tokens_kernel(const WeightTiles w, const TokenTiles x, const LinearOutput output,
                       const TokensGrid grid) {
  extern __shared__ int4 slot_memory[];
  __shared__ ByteCounter counter;
  const Slots slots{slot_memory, &counter};
  using Warp = BitsTokensWarp<P, B>;
  const int lane = threadIdx.x % kLanes;
  const int rank = grid.rank(blockIdx.x);
  const int first = grid.first_row(blockIdx.x);
  const int rows = grid.rows(first);
  const int owned = grid.owned(rows, rank);
  const int k_tile = grid.first_k(rank) + threadIdx.x / kLanes;
  const int own_rows = k_tile < grid.first_k(rank + 1) ? rows : 0;  // of this warp

  // load_tile: weights of the first row tiles.
  Warp self;
  const uint4* source =
      reinterpret_cast<const uint4*>(w.tiles) + plane_load(first, grid.k_tiles, k_tile, P, 0, lane);
  const int stride = grid.k_tiles * P * kLanes;
#pragma unroll
  for (int d = 0; d < Warp::kDepth; ++d) {
    if (d < own_rows) self.load(d, source);
    source += stride;
  }
  slots.start(grid, (owned << grid.cluster_log2) * kSlotBytes);
  FirstPair own;
  own.n_tile = min(first + rank + ((static_cast<int>(threadIdx.x) / 64) << grid.cluster_log2),
                   grid.n_tiles - 1);
  own.row = pair_row(threadIdx.x % 64);
  own.token = min(pair_token(threadIdx.x % 64), x.m - 1);
  own.rows = load_row_terms(w, own.n_tile, 0, own.row);
  own.place = place_residual(w, output, own.n_tile, own.row, own.token);
  compute_now(own.place);
  int64_t place = Warp::place(x, grid.k_tiles, k_tile, lane);
  compute_now(place);
  release_next();

  // wait_stage: from here on tokens can be read.
  wait_for_previous();
  if (own_rows > 0) self.load_tokens(x, place, lane);
  own.terms = load_token_terms(x, own.token);
  own.residual = read_residual(output, own.place);

  // bit_mma, combine_planes
  int4* slot = slot_memory + threadIdx.x;
#pragma unroll 1
  for (int begin = 0; begin < own_rows; begin += Warp::kDepth) {
#pragma unroll
    for (int d = 0; d < Warp::kDepth; ++d) {
      const int row = begin + d;
      if (row >= own_rows) break;
      const int4 total = self.multiply(d);
      if (row + Warp::kDepth < own_rows) self.load(d, source);
      source += stride;
      *slot = total;
      slot += grid.warps() * kLanes;
    }
  }

  // reduce
  __syncthreads();
  const bool alone = grid.cluster_log2 == 0;
  if (!alone) {
    slots.send(grid, rows, rank, grid.first_k(rank + 1) - grid.first_k(rank));
    slots.counter->wait();
  }

  // epilogue: a thread has two rows of one token.
  for (int i = threadIdx.x; i < 64 * owned; i += blockDim.x) {
    if (pair_token(i % 64) >= x.m) continue;
    if (i >= blockDim.x) {
      own.n_tile = first + rank + ((i / 64) << grid.cluster_log2);
      own.row = pair_row(i % 64);
      own.token = pair_token(i % 64);
      own.rows = load_row_terms(w, own.n_tile, 0, own.row);
      own.terms = load_token_terms(x, own.token);
      own.residual = load_residual(w, output, own.n_tile, own.row, own.token);
    }
    const int at = alone ? grid.slot(i / 64) : grid.arrival(i / 64);
    const int2 sum = sum_slots(reinterpret_cast<const int2*>(slot_memory + at * kLanes) + i % 64,
                               alone ? grid.warps() : grid.cluster());
    finish_pair(w, output, own.n_tile, own.row, own.token, own.rows, own.terms, own.residual, sum.x,
                sum.y);
  }
}

}  // namespace abq::runtime::cuda
