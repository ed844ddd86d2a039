// cuda.bytes for up to 8 tokens, per channel: tokens stay in registers, weights run past them.
// bytes_tokens.h says which warp has what.
//
// Weights of the first row tiles are under way before the kernel ahead has finished; tokens are
// read once. Read for each row tile, 8 tokens would be as many bytes as the weights.
#pragma once

#include "runtime/cuda/linear/bytes_launchers.h"
#include "runtime/cuda/linear/bytes_tokens.h"
#include "runtime/cuda/linear/bytes_units.cuh"
#include "runtime/cuda/linear/epilogue.cuh"
#include "runtime/cuda/tokens/cluster.cuh"

namespace abq::runtime::cuda {

// What a warp does with a share of S units; D row tiles are under way.
//
// Codes are not shifted down to bytes: a field at bit f of a byte is 2^f times its code, and sums
// of fields at different bits are added up apart, in registers that let products overlap.
template <class Unit, int S, int D>
struct TokensWarp {
  static constexpr int kTiles = S * Unit::kTiles;

  Unit units[D][S];
  uint32_t codes[kTiles][2 * kTileSteps];
  const uint4* source;  // of the next row tile to load
  int stride;           // between row tiles, in loads
  int loads;            // of a unit
  int own_units, first_tile, own_tiles;

  __device__ __forceinline__ void start(const WeightTiles& w, int n_tile, int share, int lane) {
    const int k_tiles = tiles_of(w.k, kTileDepth);
    const int unit = S * share;
    own_units = min(S, Unit::count(k_tiles) - unit);
    first_tile = Unit::kTiles * unit;
    own_tiles = min(kTiles, k_tiles - first_tile);
    loads = Unit::loads(w, k_tiles, unit);
    source = reinterpret_cast<const uint4*>(w.tiles) + Unit::place(w, n_tile, k_tiles, unit, lane);
    stride = static_cast<int>(Unit::place(w, 1, k_tiles, 0, 0));
  }

  // Units beyond the last are 0.
  __device__ __forceinline__ void load(int slot) {
#pragma unroll
    for (int u = 0; u < S; ++u)
      units[slot][u].load(source + u * (Unit::kLoads * kLanes), u < own_units ? loads : 0);
  }
  __device__ __forceinline__ void prepare(int slot) {
#pragma unroll
    for (int u = 0; u < S; ++u)
      units[slot][u].prepare();
  }

  // Word of x.codes that this lane reads first. Columns beyond the tokens repeat the last; nobody
  // reads their sums.
  __device__ __forceinline__ int64_t token_word(const TokenTiles& x, int lane) const {
    return int64_t{first_tile} * (2 * kTileSteps * kLanes) + 4 * min(lane_row(lane), x.m - 1) +
           lane_column(lane);
  }
  __device__ __forceinline__ void load_tokens(const uint32_t* words) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int j = 0; j < 2 * kTileSteps; ++j) {
        codes[i][j] = 0;
        if (i < own_tiles) codes[i][j] = words[(2 * kTileSteps * i + j) * kLanes];
      }
  }

  // All products of a prepared row tile, in the order of a slot.
  __device__ __forceinline__ int4 multiply(int slot) {
    int32_t sums[Unit::kFields][4] = {};
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      Unit& unit = units[slot][i / Unit::kTiles];
      unit.next_tile();
#pragma unroll
      for (int s = 0; s < kTileSteps; ++s) {
        const uint32_t fields[4] = {unit.field(s, 0), unit.field(s, 1), unit.field(s, 2),
                                    unit.field(s, 3)};
        byte_mma(sums[Unit::field_number(s)], fields, codes[i][2 * s], codes[i][2 * s + 1]);
      }
    }
    int32_t total[4] = {};
#pragma unroll
    for (int f = 0; f < Unit::kFields; ++f)
#pragma unroll
      for (int c = 0; c < 4; ++c)
        total[c] += sums[f][c] >> (8 / Unit::kFields * f);
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
  // Of pair `pair`.
  __device__ __forceinline__ int2 sum_pair(int first, int count, int pair) const {
    const int2* const from = reinterpret_cast<const int2*>(memory + first * kLanes) + pair;
    int2 total = make_int2(0, 0);
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      const int2 one = from[kSlotBytes / 8 * i];
      total.x += one.x;
      total.y += one.y;
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

// Row terms of the own tiles n_tile, n_tile + step, ... on their way to shared memory, without a
// register each.
struct OwnRows {
  uint32_t* memory;  // [own tile][scales, zeros, sums][row]

  __device__ __forceinline__ void start(const WeightTiles& w, int n_tile, int step, int count) {
    constexpr int kParts = kTileRows / 4;  // copies of 16 bytes
    for (int i = threadIdx.x; i < 3 * kParts * count; i += blockDim.x) {
      const int which = i / kParts % 3;
      const void* const from = which == 0   ? static_cast<const void*>(w.scales)
                               : which == 1 ? static_cast<const void*>(w.zeros)
                                            : static_cast<const void*>(w.sums);
      const int tile = n_tile + step * (i / (3 * kParts));
      copy_async(memory + 4 * i, static_cast<const uint4*>(from) + tile * kParts + i % kParts);
    }
  }
  __device__ __forceinline__ RowTerms terms(int own, int row) const {
    const uint32_t* const from = memory + own * kRowTermWords + row;
    RowTerms terms;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      terms.scale[i] = __uint_as_float(from[8 * i]);
      terms.zero[i] = static_cast<int32_t>(from[kTileRows + 8 * i]);
      terms.sum[i] = static_cast<int32_t>(from[2 * kTileRows + 8 * i]);
    }
    return terms;
  }
};

// early: weights are made ready before tokens can be read.
template <class Unit, int S, int D, bool early, int warps>
__global__ void __launch_bounds__(kLanes* warps, 1)
    bytes_tokens_kernel(const WeightTiles w, const TokenTiles x, const LinearOutput output,
                        const TokensGrid grid) {
  extern __shared__ int4 slot_memory[];
  __shared__ ByteCounter counter;
  const Slots slots{slot_memory, &counter};
  const int lane = threadIdx.x % kLanes;
  const int warp = threadIdx.x / kLanes;
  const int rank = grid.rank(blockIdx.x);
  const int first = grid.first_row(blockIdx.x);
  const int rows = grid.rows(blockIdx.x);
  const int owned = grid.owned(rows, rank);
  const int share = grid.first_share(rank) + warp;
  const int own_rows = share < grid.first_share(rank + 1) ? rows : 0;  // of this warp

  // load_tile: weights of the first row tiles.
  TokensWarp<Unit, S, D> self;
  self.start(w, first, share, lane);
#pragma unroll
  for (int d = 0; d < D; ++d) {
    if (d < own_rows) self.load(d);
    self.source += self.stride;
  }
  OwnRows own{reinterpret_cast<uint32_t*>(slot_memory + grid.slots() * kLanes)};
  own.start(w, first + rank, grid.cluster(), owned);
  slots.start(grid, (owned << grid.cluster_log2) * kSlotBytes);
  // A thread has the same token in all its outputs.
  const int token = min(pair_token(threadIdx.x % 64), x.m - 1);
  const auto own_tile = [&](int i) { return first + rank + ((i / 64) << grid.cluster_log2); };
  ResidualPlace place =
      place_residual(w, output, own_tile(threadIdx.x), pair_row(threadIdx.x % 64), token);
  compute_now(place);
  int64_t token_word = self.token_word(x, lane);
  compute_now(token_word);
  release_next();
  if constexpr (early) {
#pragma unroll
    for (int d = 0; d < D; ++d)
      self.prepare(d);
  }

  // wait_stage: from here on tokens can be read.
  wait_for_previous();
  if (own_rows > 0) self.load_tokens(reinterpret_cast<const uint32_t*>(x.codes) + token_word);
  const TokenTerms terms = load_token_terms(x, token);
  const ResidualPair first_residual = read_residual(output, place);

  // byte_mma
  int4* slot = slot_memory + threadIdx.x;
#pragma unroll 1
  for (int begin = 0; begin < own_rows; begin += D) {
#pragma unroll
    for (int d = 0; d < D; ++d) {
      const int row = begin + d;
      if (row >= own_rows) break;
      if (!early || begin > 0) self.prepare(d);
      const int4 total = self.multiply(d);
      if (row + D < own_rows) self.load(d);
      self.source += self.stride;
      *slot = total;
      slot += grid.warps() * kLanes;
    }
  }

  // reduce
  wait_for_copies();
  __syncthreads();
  const bool alone = grid.cluster_log2 == 0;
  if (!alone) {
    slots.send(grid, rows, rank, grid.first_share(rank + 1) - grid.first_share(rank));
    slots.counter->wait();
  }

  // epilogue: a thread has two rows of one token.
  for (int i = threadIdx.x; i < 64 * owned; i += blockDim.x) {
    if (pair_token(i % 64) >= x.m) continue;
    const int n_tile = own_tile(i);
    const int row = pair_row(i % 64);
    const int2 sum = slots.sum_pair(alone ? grid.slot(i / 64) : grid.arrival(i / 64),
                                    alone ? grid.warps() : grid.cluster(), i % 64);
    finish_pair(w, output, n_tile, row, token, own.terms(i / 64, row), terms,
                i < blockDim.x ? first_residual : load_residual(w, output, n_tile, row, token),
                sum.x, sum.y);
  }
}

template <class Unit, int S, int D, bool early, int warps>
cudaError_t start_bytes_tokens(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, BlockShape shape, cudaStream_t stream) {
  const auto kernel = bytes_tokens_kernel<Unit, S, D, early, warps>;
  const TokensGrid grid = tokens_grid(w.n, tiles_of(Unit::count(tiles_of(w.k, kTileDepth)), S),
                                      shape.clusters, shape.cluster);
  const cudaError_t error = allow_shared(kernel, static_cast<unsigned>(grid.shared_bytes()));
  if (error != cudaSuccess) return error;
  return launch_clusters(kernel,
                         LaunchShape{dim3(static_cast<unsigned>(grid.blocks())),
                                     dim3(static_cast<unsigned>(kLanes * grid.warps())),
                                     static_cast<unsigned>(grid.shared_bytes())},
                         grid.cluster(), stream, w, x, output, grid);
}

}  // namespace abq::runtime::cuda
