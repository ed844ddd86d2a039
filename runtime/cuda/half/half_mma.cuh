// What the two half kernels share on the device: fragments, groups, epilogue.
#pragma once

#include <cuda_fp16.h>

#include "runtime/cuda/device_memory.cuh"
#include "runtime/cuda/half/half_codes.h"
#include "runtime/cuda/half/half_kernels.h"
#include "runtime/cuda/launch.cuh"

namespace abq::runtime::cuda {

// acc [16 x 8] += a [16 x 16] b [16 x 8].
__device__ __forceinline__ void half_mma(float (&acc)[4], const uint32_t (&a)[4], uint2 b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}

// Asynchronous copies to shared memory, of 8 or 16 bytes.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global) {
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global), "n"(kBytes)
               : "memory");
}
// 16 bytes, zeros unless `exists`.
__device__ __forceinline__ void copy_async_or_clear(void* shared, const void* global, bool exists) {
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global),
               "r"(exists ? 16 : 0)
               : "memory");
}

// All threads of a cluster; before, each wrote to its block's shared memory what others read then.
__device__ __forceinline__ void synchronize_cluster() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
#endif
}
// The float at this address of the shared memory of block `rank` of the cluster.
__device__ __forceinline__ float load_of_rank(const float* shared, int rank) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  uint32_t remote;
  float value;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(from), "r"(rank));
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(remote) : "memory");
  return value;
#else
  return *shared;
#endif
}

__device__ __forceinline__ __half2 as_half2(uint32_t bits) {
  __half2 value;
  *reinterpret_cast<uint32_t*>(&value) = bits;
  return value;
}
__device__ __forceinline__ uint32_t as_bits(__half2 value) {
  return *reinterpret_cast<uint32_t*>(&value);
}

// A lane's words of one unit of tiles; units that do not exist and planes beyond the last are zero.
template <class Codes>
__device__ __forceinline__ void load_unit(const WeightTiles& weights, int n_tile, int unit,
                                          bool exists, int lane,
                                          uint32_t (&words)[Codes::kLoads][4]) {
  const int k_tiles = tiles_of(weights.k, kTileDepth);
  const int loads = exists ? Codes::loads(weights.planes, Codes::tiles(k_tiles, unit)) : 0;
  const uint4* from = reinterpret_cast<const uint4*>(weights.tiles) +
                      Codes::load_index(n_tile, k_tiles, unit, weights.planes, 0, lane);
#pragma unroll
  for (int i = 0; i < Codes::kLoads; ++i) {
    uint4 value = make_uint4(0, 0, 0, 0);
    if (i < loads) value = load_streaming(from + i * kLanes);
    words[i][0] = value.x;
    words[i][1] = value.y;
    words[i][2] = value.z;
    words[i][3] = value.w;
  }
}

// Minus the zero points of rows g and g + 8, twice each.
struct ZeroPair {
  __half2 minus[2];
};
__device__ __forceinline__ ZeroPair zero_pair(const int32_t* zeros, int row) {
  return {{__float2half2_rn(-static_cast<float>(zeros[row])),
           __float2half2_rn(-static_cast<float>(zeros[row + 8]))}};
}

// The A operand of step s of a tile of the unit, half h: rows g and g + 8, inputs 0 and 2, then 1
// and 3.
template <class Codes>
__device__ __forceinline__ void expand_step(const typename Codes::State& state,
                                            const ZeroPair& zeros, int tile, int s, int h,
                                            uint32_t (&a)[4]) {
  constexpr int kBits = Codes::kFieldBits;
  const int bit = field_bit(kBits, s);
  const __half2 factor = as_half2(both_halves(field_factor(bit)));
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const __half2 addend = __hadd2(as_half2(both_halves(field_offset(bit))), zeros.minus[row]);
    const uint32_t field = Codes::field(state, tile, s, 2 * h + row);
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const __half2 biased = as_half2(biased_pair<kBits>(field, bit, pair));
      a[2 * pair + row] =
          as_bits(bit == 0 ? __hadd2(biased, addend) : __hfma2(biased, factor, addend));
    }
  }
}

// Steps of 32 inputs that share scales, as a power of two; per channel a whole tile's.
__device__ __forceinline__ int group_shift(const WeightTiles& weights) {
  return weights.group_size == 0 ? 3 : weights.group_size / 64;  // 32, 64, 128: 0, 1, 2
}
// Entry of the 16 scales and zero points of step s of tile k_tile. Steps beyond k use the last
// group's: their activations are 0.
__device__ __forceinline__ int group_entry(const WeightTiles& weights, int k_tile, int s,
                                           int shift) {
  const int group = (k_tile * kHalfSteps + s) >> shift;
  return (group < weights.groups ? group : weights.groups - 1) * kTileRows;
}

// One token's outputs of rows g and g + 8 of a tile, before the token's scale.
__device__ __forceinline__ void store_outputs(const HalfArguments& arguments, int n_tile, int g,
                                              int token, float first, float second) {
  const WeightTiles& weights = arguments.weights;
  const LinearOutput& output = arguments.output;
  const float scale = arguments.tokens.scales[token];
  const int column = n_tile * (weights.gated ? 8 : kTileRows) + g;
  const int columns = weights.gated ? weights.n / 2 : weights.n;
  const bool low = column < columns;
  const bool high = !weights.gated && column + 8 < columns;
  float added[2] = {0, 0};
  if (output.residual != nullptr) {
    const float* const from = output.residual + token * output.residual_stride + column;
    if (low) added[0] = from[0];
    if (high) added[1] = from[8];
  }
  first *= scale;
  second *= scale;
  if (weights.gated) first = first / (1.0f + expf(-first)) * second;
  float* const to = output.y + token * output.stride + column;
  if (low) to[0] = first + added[0];
  if (high) to[8] = second + added[1];
}

}  // namespace abq::runtime::cuda
