// cuda.bits for one token, and for more whose planes fit 8 columns: plane words of weights and
// tokens meet in mma m16n8k256 .and.popc. A column of B is one plane of one token, so one token of
// 8 bits fills the instruction. (More columns: bits_tokens_kernel.cuh.)
//
// A block has 16 rows; its warps share K tile by tile. Every lane starts its weight loads before it
// waits for the kernel ahead. Counts stay exact in int32 until activation planes are combined: one
// column is at most 255 K < 2^31.
#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/linear/epilogue.cuh"
#include "runtime/cuda/linear/launchers.h"
#include "runtime/cuda/linear/mma.cuh"
#include "runtime/cuda/linear/tile_layout.h"

namespace abq::runtime::cuda {
namespace {

// Walks the k-tiles of a warp: all planes of a tile at once, or (plane_by_plane) once per plane.
struct Cursor {
  int tile;
  int plane;
};
template <bool plane_by_plane>
__device__ __forceinline__ void advance(Cursor& at, int warp, int warps, int k_tiles) {
  at.tile += warps;
  if (plane_by_plane && at.tile >= k_tiles) {
    at.tile = warp;
    ++at.plane;
  }
}

// P planes held at once, or P = 0: any number, one after the other. D steps of the cursor under
// way.
template <int P, int D>
struct BitsWarp {
  static constexpr int kPlanes = P > 0 ? P : 1;
  static constexpr bool kPlaneByPlane = P == 0;

  uint4 words[D][kPlanes];
  int32_t counts[kPlanes][4];
  int warp, warps, k_tiles, planes;

  __device__ bool valid(const Cursor& at) const {
    return at.tile < k_tiles && (!kPlaneByPlane || at.plane < planes);
  }
  __device__ void next(Cursor& at) const { advance<kPlaneByPlane>(at, warp, warps, k_tiles); }

  __device__ void load(int slot, const uint4* row, const Cursor& at) {
    if (!valid(at)) return;
    const uint4* const source = row + (at.tile * planes + at.plane) * kLanes;
#pragma unroll
    for (int i = 0; i < kPlanes; ++i)
      words[slot][i] = load_streaming(source + i * kLanes);
  }

  __device__ void multiply(int slot, int plane, const uint2& fragment) {
    if constexpr (kPlaneByPlane) {
      int32_t fresh[4] = {0, 0, 0, 0};
      bit_mma(fresh, words[slot][0], fragment);
#pragma unroll
      for (int c = 0; c < 4; ++c)
        counts[0][c] += fresh[c] << plane;
    } else {
#pragma unroll
      for (int i = 0; i < kPlanes; ++i)
        bit_mma(counts[i], words[slot][i], fragment);
    }
  }

  // Weight planes combined.
  __device__ int32_t sum(int c) const {
    int32_t total = counts[0][c];
#pragma unroll
    for (int i = 1; i < kPlanes; ++i)
      total += counts[i][c] << i;
    return total;
  }
};

// Sum over the 8 lanes that hold the planes of a token, plane j in lane j.
template <class T>
__device__ __forceinline__ T combine_planes(int32_t sum, int j) {
  T total = static_cast<T>(sum) << j;
#pragma unroll
  for (int offset = 1; offset < 8; offset *= 2)
    total += __shfl_xor_sync(kAllLanes, total, offset);
  return total;
}

// What a thread needs for its first outputs, loaded ahead of their sums.
struct FirstTerms {
  TokenTerms token;
  ResidualPair residual;
};

// One token of 8 bits: lanes j = 0..7 hold its planes.
__device__ __forceinline__ void finish_bytes(const WeightTiles& w, const LinearOutput& output,
                                             const RowTerms& rows, const FirstTerms& terms,
                                             const int32_t (&partial)[kMaxWarps][16][8],
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
    finish_pair(w, output, blockIdx.x, g, 0, rows, terms.token, terms.residual, first, second);
}

// Any activation width.
__device__ void finish_columns(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, const RowTerms& rows,
                               int32_t (&partial)[kMaxWarps][16][8], int warps) {
  for (int i = threadIdx.x; i < 16 * 8; i += blockDim.x) {
    const int row = i / 8;
    const int column = i % 8;
    int32_t sum = 0;
    for (int warp = 0; warp < warps; ++warp)
      sum += partial[warp][row][column];
    partial[0][row][column] = sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 64; i += blockDim.x) {
    const int token = i & 7;
    const int g = i >> 3;
    if (token >= x.m) continue;
    int64_t low = 0;
    int64_t high = 0;
    for (int j = 0; j < x.bits; ++j) {
      low += static_cast<int64_t>(partial[0][g][token * x.bits + j]) << j;
      high += static_cast<int64_t>(partial[0][g + 8][token * x.bits + j]) << j;
    }
    finish_pair(w, output, blockIdx.x, g, token, rows, load_token_terms(x, token),
                load_residual(w, output, blockIdx.x, g, token), low, high);
  }
}

template <int P, int D>
__global__ void __launch_bounds__(32 * kMaxWarps, P == 2 ? 3 : 2)
    bits_kernel(const WeightTiles w, const TokenTiles x, const LinearOutput output) {
  __shared__ int32_t partial[kMaxWarps][16][8];
  const int lane = threadIdx.x % kLanes;
  const int g = lane_row(lane);
  const int t = lane_column(lane);
  BitsWarp<P, D> self;
  self.warp = threadIdx.x / kLanes;
  self.warps = blockDim.x / kLanes;
  self.k_tiles = tiles_of(w.k, kTileDepth);
  self.planes = w.planes;

  // load_tile: all loads that fit the registers, ahead of everything else.
  const uint4* const row = reinterpret_cast<const uint4*>(w.tiles) +
                           plane_load(blockIdx.x, self.k_tiles, 0, w.planes, 0, lane);
  Cursor loading{self.warp, self.warp < self.k_tiles ? 0 : w.planes};
  Cursor using_at = loading;
#pragma unroll
  for (int d = 0; d < D; ++d) {
    self.load(d, row, loading);
    self.next(loading);
  }
  const RowTerms rows = load_row_terms(w, blockIdx.x, 0, (threadIdx.x >> 3) & 7);
#pragma unroll
  for (int i = 0; i < BitsWarp<P, D>::kPlanes; ++i)
#pragma unroll
    for (int c = 0; c < 4; ++c)
      self.counts[i][c] = 0;
  // Pairs of plane words of this lane's column, from x.planes on. Columns beyond the tokens repeat
  // the first; nobody reads them.
  const int column = g < x.m * x.bits ? g : 0;
  int64_t pair = token_plane_pair(column / x.bits, self.k_tiles, 0, x.bits, column % x.bits, t);
  compute_now(pair);
  ResidualPlace place = place_residual(w, output, blockIdx.x, (threadIdx.x >> 3) & 7, 0);
  compute_now(place);
  release_next();

  // wait_stage: from here on tokens can be read.
  wait_for_previous();
  uint2 fragments[D];
  const auto load_fragments = [&](Cursor at) {
#pragma unroll
    for (int d = 0; d < D; ++d) {
      if (self.valid(at))
        fragments[d] = reinterpret_cast<const uint2*>(x.planes)[pair + at.tile * x.bits * 4];
      self.next(at);
    }
  };
  load_fragments(using_at);
  const FirstTerms terms{load_token_terms(x, 0), read_residual(output, place)};

  // bit_mma
  while (self.valid(using_at)) {
#pragma unroll
    for (int d = 0; d < D; ++d) {
      if (!self.valid(using_at)) break;
      self.multiply(d, using_at.plane, fragments[d]);
      self.load(d, row, loading);
      self.next(using_at);
      self.next(loading);
    }
    load_fragments(using_at);
  }

  // combine_planes, reduce
  *reinterpret_cast<int2*>(&partial[self.warp][g][2 * t]) = make_int2(self.sum(0), self.sum(1));
  *reinterpret_cast<int2*>(&partial[self.warp][g + 8][2 * t]) = make_int2(self.sum(2), self.sum(3));
  __syncthreads();

  // epilogue
  if (x.bits == 8) {
    finish_bytes(w, output, rows, terms, partial, self.warps);
  } else {
    finish_columns(w, x, output, rows, partial, self.warps);
  }
}

template <int P, int D>
cudaError_t start(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                  BlockShape shape, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(tiles_of(w.n, kTileRows));
  return launch(bits_kernel<P, D>,
                LaunchShape{dim3(blocks), dim3(static_cast<unsigned>(kLanes * shape.warps))},
                stream, w, x, output);
}

}  // namespace

cudaError_t launch_bits(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                        BlockShape shape, cudaStream_t stream) {
  if (w.encoding == TileEncoding::kBase5) return launch_bits_base5(w, x, output, shape, stream);
  if (w.planes == 2) return start<2, 4>(w, x, output, shape, stream);
  if (w.planes == 3) {
    return shape.depth <= 2 ? start<3, 2>(w, x, output, shape, stream)
                            : start<3, 4>(w, x, output, shape, stream);
  }
  if (w.planes == 4) return start<4, 3>(w, x, output, shape, stream);
  return start<0, 8>(w, x, output, shape, stream);
}

BlockShape bits_shape(const WeightTiles& w) {
  if (w.encoding == TileEncoding::kBase5) return bits_base5_shape(w);
  const int k_tiles = tiles_of(w.k, kTileDepth);
  const int n_tiles = tiles_of(w.n, kTileRows);
  const int depth = w.planes == 3 && k_tiles <= 16 ? 2 : 4;
  const int useful = k_tiles <= 4 ? 2 : k_tiles <= 8 ? 4 : 8;
  if (w.planes < 2 || w.planes > 4) return {useful, depth};
  const int warps = one_wave_warps(n_tiles, w.planes == 4 ? 2 : 3);
  return {warps < useful ? warps : useful, depth};
}

}  // namespace abq::runtime::cuda
