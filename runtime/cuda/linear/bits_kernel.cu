// cuda.bits for weights in planes.
#include "runtime/cuda/linear/bits_kernel.cuh"

namespace abq::runtime::cuda {
namespace {

// P planes held at once, or P = 0: any number, one after the other. D steps of a walk over the
// warp's k-tiles under way: all planes of a tile at once, or (P = 0) once per plane.
template <int P, int D>
struct PlanesWarp {
  static constexpr int kBlocks = P == 2 ? 3 : 2;
  static constexpr int kPlanes = P > 0 ? P : 1;
  static constexpr bool kPlaneByPlane = P == 0;

  struct Cursor {
    int tile;
    int plane;
  };

  uint4 words[D][kPlanes];
  uint2 fragments[D];
  int32_t counts[kPlanes][4];
  const uint4* row;  // of the lane, at the first tile
  int warp, warps, k_tiles, planes;
  Cursor at, loading;

  __device__ __forceinline__ bool valid(const Cursor& cursor) const {
    return cursor.tile < k_tiles && (!kPlaneByPlane || cursor.plane < planes);
  }
  __device__ __forceinline__ void advance(Cursor& cursor) const {
    cursor.tile += warps;
    if (kPlaneByPlane && cursor.tile >= k_tiles) {
      cursor.tile = warp;
      ++cursor.plane;
    }
  }
  __device__ __forceinline__ void load(int slot) {
    if (valid(loading)) {
      const uint4* const source = row + (loading.tile * planes + loading.plane) * kLanes;
#pragma unroll
      for (int i = 0; i < kPlanes; ++i)
        words[slot][i] = load_streaming(source + i * kLanes);
    }
    advance(loading);
  }

  __device__ __forceinline__ void start(const WeightTiles& w, int n_tile, int own_warp,
                                        int block_warps, int lane) {
    k_tiles = tiles_of(w.k, kTileDepth);
    planes = w.planes;
    warp = own_warp;
    warps = block_warps;
    row = reinterpret_cast<const uint4*>(w.tiles) + plane_load(n_tile, k_tiles, 0, planes, 0, lane);
    at = loading = {warp, warp < k_tiles ? 0 : planes};
#pragma unroll
    for (int d = 0; d < D; ++d)
      load(d);
#pragma unroll
    for (int i = 0; i < kPlanes * 4; ++i)
      counts[i / 4][i % 4] = 0;
  }

  __device__ __forceinline__ bool busy() const {
    return valid(at);
  }

  __device__ __forceinline__ void load_fragments(const uint2* column, int stride) {
    Cursor cursor = at;
#pragma unroll
    for (int d = 0; d < D; ++d) {
      if (valid(cursor)) fragments[d] = column[cursor.tile * stride];
      advance(cursor);
    }
  }

  __device__ __forceinline__ void multiply() {
#pragma unroll
    for (int d = 0; d < D; ++d) {
      if (!busy()) return;
      multiply_step(d);
      load(d);
      advance(at);
    }
  }
  __device__ __forceinline__ void multiply_step(int slot) {
    if constexpr (kPlaneByPlane) {
      int32_t fresh[4] = {0, 0, 0, 0};
      bit_mma(fresh, words[slot][0], fragments[slot]);
#pragma unroll
      for (int c = 0; c < 4; ++c)
        counts[0][c] += fresh[c] << at.plane;
    } else {
#pragma unroll
      for (int i = 0; i < kPlanes; ++i)
        bit_mma(counts[i], words[slot][i], fragments[slot]);
    }
  }

  __device__ __forceinline__ int32_t sum(int c) const {
    int32_t total = counts[0][c];
#pragma unroll
    for (int i = 1; i < kPlanes; ++i)
      total += counts[i][c] << i;
    return total;
  }
};

}  // namespace

cudaError_t launch_bits(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                        BlockShape shape, cudaStream_t stream) {
  if (w.encoding == TileEncoding::kBase5) return launch_bits_base5(w, x, output, shape, stream);
  if (w.planes == 2) return start_bits<PlanesWarp<2, 4>>(w, x, output, shape, stream);
  if (w.planes == 3) {
    return shape.depth <= 2 ? start_bits<PlanesWarp<3, 2>>(w, x, output, shape, stream)
                            : start_bits<PlanesWarp<3, 4>>(w, x, output, shape, stream);
  }
  if (w.planes == 4) return start_bits<PlanesWarp<4, 3>>(w, x, output, shape, stream);
  return start_bits<PlanesWarp<0, 8>>(w, x, output, shape, stream);
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
