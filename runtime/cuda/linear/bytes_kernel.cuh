// cuda.bytes: weight codes are expanded to bytes in registers and meet the activation codes in
// mma m16n8k32 u8 x u8: any widths, any number of tokens, groups.
//
// A block has R tiles of 16 rows and B blocks of 8 tokens; its warps share K unit by unit and read
// activations once for all R tiles. Sums of a segment of K fit int32; segments and warps are added
// up in int64. With groups, each group's sum is complete in a lane, meets its scale there, and the
// float sums of the warps are added in their order.
#pragma once

#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/linear/bytes_units.cuh"
#include "runtime/cuda/linear/epilogue.cuh"
#include "runtime/cuda/linear/launchers.h"

namespace abq::runtime::cuda {

// What a thread needs for its outputs, loaded ahead of their sums: row terms with one tile in the
// block (R = 1), the others with 8 tokens (B = 1).
struct EarlyTerms {
  RowTerms rows;
  TokenTerms token;
  ResidualPair residual;
};

template <class Unit, int B, int R, bool grouped>
struct BytesBlock {
  static constexpr int kChunk = B < 4 ? B : 4;  // blocks of 8 tokens reduced at a time
  // With few products side by side, two sums take turns: each waits half as often for its last.
  static constexpr int kTurns = B == 1 && R == 1 && !grouped ? 2 : 1;

  struct Shared {
    union {
      int32_t sums[kMaxWarps][16][8 * kChunk];
      float terms[kMaxWarps][16][8 * kChunk];
    } partial;
    int64_t totals[grouped ? 1 : R * B * 64][2];  // of the segments before
  };

  const WeightTiles& w;
  const TokenTiles& x;
  const LinearOutput& output;
  Shared& shared;
  int lane, warp, warps, k_tiles, n_tile, token;  // the first tile and token of the block
  int32_t sums[R][B * kTurns][4];
  float terms[grouped ? R : 1][grouped ? B : 1][4];

  __device__ __forceinline__ void clear_sums() {
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int b = 0; b < B * kTurns; ++b)
#pragma unroll
        for (int c = 0; c < 4; ++c)
          sums[r][b][c] = 0;
  }

  // Rows beyond the last tile repeat it, and their outputs go nowhere.
  __device__ __forceinline__ void load(Unit& into, int r, int unit) const {
    const int tile = min(n_tile + r, tiles_of(w.n, kTileRows) - 1);
    into.load(reinterpret_cast<const uint4*>(w.tiles) + Unit::place(w, tile, k_tiles, unit, lane),
              Unit::loads(w, k_tiles, unit));
  }

  // Adds the second sum of each block of tokens to its first.
  __device__ __forceinline__ void join_sums() {
    if constexpr (kTurns == 2) {
#pragma unroll
      for (int c = 0; c < 4; ++c)
        sums[0][0][c] += sums[0][1][c];
    }
  }

  // Group `group` ends: its sums meet zero points and scales.
  __device__ __forceinline__ void finish_group(int group) {
    if (group < w.groups) {
      const int g = lane_row(lane);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        if (kTileRows * (n_tile + r) >= w.n) break;
        const RowTerms rows = load_row_terms(w, n_tile + r, group, g);
#pragma unroll
        for (int b = 0; b < B; ++b)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int at = token + 8 * b + 2 * lane_column(lane) + i;
            if (at >= x.m) continue;
            if (output.raw != nullptr)
              store_raw_pair(w, output, n_tile + r, group, g, at, sums[r][b][i], sums[r][b][i + 2]);
            const int32_t x_zero = x.zeros[at];
            const int32_t x_sum = token_group_sum(x, k_tiles, at, group, w.group_size / 32);
            terms[r][b][i] += group_term(w, rows.scale[0], rows.zero[0], rows.sum[0], x_zero, x_sum,
                                         sums[r][b][i]);
            terms[r][b][i + 2] += group_term(w, rows.scale[1], rows.zero[1], rows.sum[1], x_zero,
                                             x_sum, sums[r][b][i + 2]);
          }
      }
    }
    clear_sums();
  }

  // Step s of the tile that the units are at, step `step` along k, against all tokens.
  __device__ __forceinline__ void multiply_step(const Unit (&units)[R], int s, int step,
                                                const uint32_t* codes) {
    uint32_t expanded[R][4];
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int word = 0; word < 4; ++word)
        expanded[r][word] = units[r].codes(s, word);
#pragma unroll
    for (int b = 0; b < B; ++b) {
      const uint32_t* const source =
          codes + (static_cast<int64_t>(b) * 16 * k_tiles + 2 * step) * kLanes;
      const uint32_t b0 = source[0];
      const uint32_t b1 = source[kLanes];
#pragma unroll
      for (int r = 0; r < R; ++r)
        byte_mma(sums[r][b + (kTurns == 2 ? s % 2 : 0)], expanded[r], b0, b1);
    }
    if constexpr (grouped) {
      const int group_steps = w.group_size / 32;  // a power of two
      if (((step + 1) & (group_steps - 1)) == 0) finish_group(step / group_steps);
    }
  }

  // One unit of all R tiles against all tokens. codes: lane's word of step 0 of the first block.
  __device__ __forceinline__ void multiply(Unit (&units)[R], int unit, const uint32_t* codes) {
#pragma unroll
    for (int r = 0; r < R; ++r)
      units[r].prepare();
#pragma unroll 1
    for (int i = 0; i < Unit::kTiles; ++i) {
      const int tile = Unit::kTiles * unit + i;
      if (Unit::kTiles > 1 && tile >= k_tiles) return;
#pragma unroll
      for (int r = 0; r < R; ++r)
        units[r].next_tile();
#pragma unroll
      for (int s = 0; s < kTileSteps; ++s)
        multiply_step(units, s, kTileSteps * tile + s, codes);
    }
  }

  // Per channel: adds up the warps, and the segments before; the last one makes outputs.
  __device__ __forceinline__ void reduce(bool first, bool last, const EarlyTerms& early) {
    const int g = lane_row(lane);
    const int t = lane_column(lane);
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int chunk = 0; chunk < B; chunk += kChunk) {
        __syncthreads();
#pragma unroll
        for (int b = 0; b < kChunk; ++b) {
          const int32_t(&from)[4] = sums[r][chunk + b];
          *reinterpret_cast<int2*>(&shared.partial.sums[warp][g][8 * b + 2 * t]) =
              make_int2(from[0], from[1]);
          *reinterpret_cast<int2*>(&shared.partial.sums[warp][g + 8][8 * b + 2 * t]) =
              make_int2(from[2], from[3]);
        }
        __syncthreads();
        if (kTileRows * (n_tile + r) >= w.n) continue;
        for (int i = threadIdx.x; i < 64 * kChunk; i += blockDim.x) {
          const int column = 8 * (i >> 6) + (i & 7);
          const int row = (i >> 3) & 7;
          const int at = token + 8 * chunk + column;
          if (at >= x.m) continue;
          int64_t low = 0;
          int64_t high = 0;
#pragma unroll
          for (int other = 0; other < kMaxWarps; ++other) {
            if (other < warps) {
              low += shared.partial.sums[other][row][column];
              high += shared.partial.sums[other][row + 8][column];
            }
          }
          int64_t(&before)[2] = shared.totals[(r * B + chunk) * 64 + i];
          if (!first) {
            low += before[0];
            high += before[1];
          }
          if (!last) {
            before[0] = low;
            before[1] = high;
            continue;
          }
          finish_pair(w, output, n_tile + r, row, at,
                      R == 1 ? early.rows : load_row_terms(w, n_tile + r, 0, row),
                      B == 1 ? early.token : load_token_terms(x, at),
                      B == 1 ? early.residual : load_residual(w, output, n_tile + r, row, at), low,
                      high);
        }
      }
    }
  }

  // Groups: adds up the float sums of the warps.
  __device__ __forceinline__ void reduce_terms() {
    if (output.raw != nullptr) return;
    const int g = lane_row(lane);
    const int t = lane_column(lane);
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int chunk = 0; chunk < B; chunk += kChunk) {
        __syncthreads();
#pragma unroll
        for (int b = 0; b < kChunk; ++b) {
          const float(&from)[4] = terms[grouped ? r : 0][grouped ? chunk + b : 0];
          *reinterpret_cast<float2*>(&shared.partial.terms[warp][g][8 * b + 2 * t]) =
              make_float2(from[0], from[1]);
          *reinterpret_cast<float2*>(&shared.partial.terms[warp][g + 8][8 * b + 2 * t]) =
              make_float2(from[2], from[3]);
        }
        __syncthreads();
        if (kTileRows * (n_tile + r) >= w.n) continue;
        for (int i = threadIdx.x; i < 64 * kChunk; i += blockDim.x) {
          const int column = 8 * (i >> 6) + (i & 7);
          const int row = (i >> 3) & 7;
          const int at = token + 8 * chunk + column;
          if (at >= x.m) continue;
          float low = 0.0f;
          float high = 0.0f;
#pragma unroll
          for (int other = 0; other < kMaxWarps; ++other) {
            if (other < warps) {
              low += shared.partial.terms[other][row][column];
              high += shared.partial.terms[other][row + 8][column];
            }
          }
          const float scale = x.scales[at];
          store_pair(w, output, n_tile + r, row, at, load_residual(w, output, n_tile + r, row, at),
                     scale * low, scale * high);
        }
      }
    }
  }
};

// D units of each tile under way.
template <class Unit, int B, int R, int D, bool grouped>
__global__ void __launch_bounds__(32 * kMaxWarps, B == 1 ? 2 : 1)
    bytes_kernel(const WeightTiles w, const TokenTiles x, const LinearOutput output) {
  using Block = BytesBlock<Unit, B, R, grouped>;
  __shared__ typename Block::Shared shared;
  Block self{w, x, output, shared};
  self.lane = threadIdx.x % kLanes;
  self.warp = threadIdx.x / kLanes;
  self.warps = blockDim.x / kLanes;
  self.k_tiles = tiles_of(w.k, kTileDepth);
  self.n_tile = blockIdx.x * R;
  self.token = blockIdx.y * 8 * B;
  const int units = Unit::count(self.k_tiles);

  // load_tile
  Unit ring[D][R];
#pragma unroll
  for (int d = 0; d < D; ++d) {
    const int unit = self.warp + d * self.warps;
#pragma unroll
    for (int r = 0; r < R; ++r)
      if (unit < units) self.load(ring[d][r], r, unit);
  }
  EarlyTerms early{};
  if (R == 1 && !grouped) early.rows = load_row_terms(w, self.n_tile, 0, (threadIdx.x >> 3) & 7);
  self.clear_sums();
  if constexpr (grouped) {
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int b = 0; b < B; ++b)
#pragma unroll
        for (int c = 0; c < 4; ++c)
          self.terms[r][b][c] = 0.0f;
  }
  int64_t first_code =
      static_cast<int64_t>(blockIdx.y) * B * 16 * self.k_tiles * kLanes + self.lane;
  compute_now(first_code);
  const int early_token = min(self.token + static_cast<int>(threadIdx.x & 7), x.m - 1);
  ResidualPlace place;
  if (B == 1 && !grouped) {
    place = place_residual(w, output, self.n_tile, (threadIdx.x >> 3) & 7, early_token);
    compute_now(place);
  }
  release_next();

  // wait_stage: from here on tokens can be read.
  wait_for_previous();
  if (B == 1 && !grouped) {
    early.token = load_token_terms(x, early_token);
    early.residual = read_residual(output, place);
  }
  const uint32_t* const codes = reinterpret_cast<const uint32_t*>(x.codes) + first_code;

  // byte_mma, in turns of D units a warp: the same number of turns for all warps.
  const int turns = (units + D * self.warps - 1) / (D * self.warps);
  bool first = true;
  for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
    for (int d = 0; d < D; ++d) {
      const int unit = self.warp + (turn * D + d) * self.warps;
      if (unit >= units) break;
      self.multiply(ring[d], unit, codes);
      const int ahead = unit + D * self.warps;
#pragma unroll
      for (int r = 0; r < R; ++r)
        if (ahead < units) self.load(ring[d][r], r, ahead);
    }
    if constexpr (!grouped) {
      const bool last = turn + 1 == turns;
      if (!last && (turn + 1) * D % Unit::kSegment != 0) continue;
      self.join_sums();
      self.reduce(first, last, early);
      self.clear_sums();
      first = false;
    }
  }
  if constexpr (grouped) self.reduce_terms();
}

template <class Unit, int B, int R, int D, bool grouped>
cudaError_t start_bytes(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                        BlockShape shape, cudaStream_t stream) {
  static_assert(Unit::kSegment % D == 0, "a segment ends between turns");
  const dim3 grid(static_cast<unsigned>(tiles_of(w.n, kTileRows * R)),
                  static_cast<unsigned>(tiles_of(x.m, 8 * B)));
  return launch(bytes_kernel<Unit, B, R, D, grouped>,
                LaunchShape{grid, dim3(static_cast<unsigned>(kLanes * shape.warps))}, stream, w, x,
                output);
}

// The instances of one unit; Deep units of one tile are under way for few tokens where K is long.
template <class Unit, int Depth, int Deep>
cudaError_t launch_unit(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                        BlockShape shape, cudaStream_t stream) {
  constexpr int kShallow = Depth > 1 ? Depth / 2 : 1;
  if (w.group_size > 0) {
    return x.m <= 8 ? start_bytes<Unit, 1, 1, Depth, true>(w, x, output, shape, stream)
                    : start_bytes<Unit, 4, 1, kShallow, true>(w, x, output, shape, stream);
  }
  if (x.m <= 8) {
    return shape.depth <= Depth ? start_bytes<Unit, 1, 1, Depth, false>(w, x, output, shape, stream)
                                : start_bytes<Unit, 1, 1, Deep, false>(w, x, output, shape, stream);
  }
  if (x.m <= 16) return start_bytes<Unit, 2, 1, Depth, false>(w, x, output, shape, stream);
  if (x.m <= 32) return start_bytes<Unit, 4, 2, kShallow, false>(w, x, output, shape, stream);
  return start_bytes<Unit, 8, 2, kShallow, false>(w, x, output, shape, stream);
}

}  // namespace abq::runtime::cuda
