// cuda.bits for base 5: a warp takes K unit by unit and multiplies the planes of its three tiles.
#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/bits_kernel.cuh"

namespace abq::runtime::cuda {
namespace {

// D units of a lane under way.
template <int D>
struct Base5Warp {
  static constexpr int kBlocks = D == 1 ? 3 : 2;

  Base5UnitWords words[D];
  uint2 fragments[D][kBase5UnitTiles];
  int32_t counts[kBase5Planes][4];
  const uint4* next;  // load 0 of unit `loading`
  int at, loading, warps, k_tiles, units;

  __device__ __forceinline__ void load(int slot) {
    if (loading < units) {
      const int loads = base5_loads(base5_unit_tiles(k_tiles, loading));
#pragma unroll
      for (int i = 0; i < kBase5UnitLoads; ++i) {
        uint4 loaded = make_uint4(0, 0, 0, 0);
        if (i < base5_loads(1) || i < loads) loaded = load_streaming(next + i * kLanes);
        words[slot][i][0] = loaded.x;
        words[slot][i][1] = loaded.y;
        words[slot][i][2] = loaded.z;
        words[slot][i][3] = loaded.w;
      }
    }
    next += warps * kBase5UnitLoads * kLanes;
    loading += warps;
  }

  __device__ __forceinline__ void start(const WeightTiles& w, int n_tile, int warp, int block_warps,
                                        int lane) {
    k_tiles = tiles_of(w.k, kTileDepth);
    units = base5_units(k_tiles);
    warps = block_warps;
    at = loading = warp;
    next = reinterpret_cast<const uint4*>(w.tiles) + base5_load(n_tile, k_tiles, warp, 0, lane);
#pragma unroll
    for (int d = 0; d < D; ++d)
      load(d);
#pragma unroll
    for (int i = 0; i < kBase5Planes * 4; ++i)
      counts[i / 4][i % 4] = 0;
  }

  __device__ __forceinline__ bool busy() const {
    return at < units;
  }

  // Tiles beyond the last repeat it: the weights are 0 there.
  __device__ __forceinline__ void load_fragments(const uint2* column, int stride) {
#pragma unroll
    for (int d = 0; d < D; ++d) {
      const int unit = at + d * warps;
#pragma unroll
      for (int tile = 0; tile < kBase5UnitTiles; ++tile) {
        const int k_tile = min(kBase5UnitTiles * unit + tile, k_tiles - 1);
        if (unit < units) fragments[d][tile] = column[k_tile * stride];
      }
    }
  }

  __device__ __forceinline__ void multiply() {
#pragma unroll
    for (int d = 0; d < D; ++d) {
      if (!busy()) return;
      Base5UnitPlanes planes;
      expand_base5_unit(words[d], planes);
#pragma unroll
      for (int tile = 0; tile < kBase5UnitTiles; ++tile)
#pragma unroll
        for (int i = 0; i < kBase5Planes; ++i)
          bit_mma(counts[i],
                  make_uint4(planes[tile][i][0], planes[tile][i][1], planes[tile][i][2],
                             planes[tile][i][3]),
                  fragments[d][tile]);
      load(d);
      at += warps;
    }
  }

  __device__ __forceinline__ int32_t sum(int c) const {
    return counts[0][c] + 2 * counts[1][c] + 4 * counts[2][c];
  }
};

}  // namespace

cudaError_t launch_bits_base5(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                              BlockShape shape, cudaStream_t stream) {
  return shape.depth == 1 ? start_bits<Base5Warp<1>>(w, x, output, shape, stream)
                          : start_bits<Base5Warp<2>>(w, x, output, shape, stream);
}

// One unit a warp where all blocks run at once then, else two under way in fewer warps.
BlockShape bits_base5_shape(const WeightTiles& w) {
  const int units = base5_units(tiles_of(w.k, kTileDepth));
  const int n_tiles = tiles_of(w.n, kTileRows);
  if (units <= one_wave_warps(n_tiles, Base5Warp<1>::kBlocks)) return {units < 2 ? 2 : units, 1};
  return {one_wave_warps(n_tiles, Base5Warp<2>::kBlocks), 2};
}

}  // namespace abq::runtime::cuda
