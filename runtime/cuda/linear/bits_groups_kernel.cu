// cuda.bits with groups along K: the inputs of a group are a mask on plane words, so each group is
// a product of its own whose integer is complete before it meets the group's scale. One block of 8
// columns per token.
#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/linear/epilogue.cuh"
#include "runtime/cuda/linear/launchers.h"
#include "runtime/cuda/linear/mma.cuh"
#include "runtime/cuda/linear/tile_layout.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kMaxPlanes = 8;

// Bits of steps first .. first + count - 1 in every byte.
__device__ __forceinline__ uint32_t step_mask(int first, int count) {
  return (((1u << count) - 1u) << first) * 0x01010101u;
}

// sums[2]: rows g and g + 8 of one token and group, in all four lanes of a quad.
__device__ __forceinline__ void group_product(const uint4 (&words)[kMaxPlanes], int planes,
                                              uint2 fragment, int t, int32_t (&sums)[2]) {
  int32_t counts[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < kMaxPlanes; ++i) {
    if (i >= planes) break;
    int32_t fresh[4] = {0, 0, 0, 0};
    bit_mma(fresh, words[i], fragment);
#pragma unroll
    for (int c = 0; c < 4; ++c)
      counts[c] += fresh[c] << i;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sums[i] = (counts[2 * i] << (2 * t)) + (counts[2 * i + 1] << (2 * t + 1));
    sums[i] += __shfl_xor_sync(kAllLanes, sums[i], 1);
    sums[i] += __shfl_xor_sync(kAllLanes, sums[i], 2);
  }
}

__global__ void __launch_bounds__(32 * kMaxWarps, 2)
    bits_groups_kernel(const WeightTiles w, const TokenTiles x, const LinearOutput output) {
  __shared__ float partial[kMaxWarps][16][kMaxGroupedBitTokens];
  const int lane = threadIdx.x % kLanes;
  const int warp = threadIdx.x / kLanes;
  const int warps = blockDim.x / kLanes;
  const int g = lane_row(lane);
  const int t = lane_column(lane);
  const int k_tiles = tiles_of(w.k, kTileDepth);
  const int steps = w.group_size / 32;
  const int tile_groups = kTileSteps / steps;
  release_next();
  wait_for_previous();

  // Lane t of a quad adds up rows g and g + 8 of token t.
  float total[2] = {0.0f, 0.0f};
  const int token = min(t, x.m - 1);
  const int x_zero = x.zeros[token];
  for (int tile = warp; tile < k_tiles; tile += warps) {
    const uint4* const source = reinterpret_cast<const uint4*>(w.tiles) +
                                plane_load(blockIdx.x, k_tiles, tile, w.planes, 0, lane);
    uint4 words[kMaxPlanes];
#pragma unroll
    for (int i = 0; i < kMaxPlanes; ++i)
      if (i < w.planes) words[i] = load_streaming(source + i * kLanes);
    for (int part = 0; part < tile_groups; ++part) {
      const int group = tile * tile_groups + part;
      if (group >= w.groups) break;
      const uint32_t mask = step_mask(part * steps, steps);
      const RowTerms rows = load_row_terms(w, blockIdx.x, group, g);
      const int32_t x_sum = token_group_sum(x, k_tiles, token, group, steps);
      for (int column = 0; column < x.m; ++column) {
        uint2 fragment = make_uint2(0, 0);
        if (g < x.bits) {
          fragment = reinterpret_cast<const uint2*>(
              x.planes)[token_plane_pair(column, k_tiles, tile, x.bits, g, t)];
        }
        fragment.x &= mask;
        fragment.y &= mask;
        int32_t sums[2];
        group_product(words, w.planes, fragment, t, sums);
        if (t != column) continue;
        if (output.raw != nullptr)
          store_raw_pair(w, output, blockIdx.x, group, g, column, sums[0], sums[1]);
#pragma unroll
        for (int i = 0; i < 2; ++i)
          total[i] +=
              group_term(w, rows.scale[i], rows.zero[i], rows.sum[i], x_zero, x_sum, sums[i]);
      }
    }
  }
  partial[warp][g][t] = total[0];
  partial[warp][g + 8][t] = total[1];
  __syncthreads();
  if (output.raw != nullptr) return;

  for (int i = threadIdx.x; i < 8 * x.m; i += blockDim.x) {
    const int row = i % 8;
    const int column = i / 8;
    float low = 0.0f;
    float high = 0.0f;
    for (int other = 0; other < warps; ++other) {
      low += partial[other][row][column];
      high += partial[other][row + 8][column];
    }
    const float scale = x.scales[column];
    store_pair(w, output, blockIdx.x, row, column,
               load_residual(w, output, blockIdx.x, row, column), scale * low, scale * high);
  }
}

}  // namespace

cudaError_t launch_bits_groups(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(tiles_of(w.n, kTileRows));
  return launch(bits_groups_kernel, LaunchShape{dim3(blocks), dim3(kLanes * kMaxWarps)}, stream, w,
                x, output);
}

}  // namespace abq::runtime::cuda
