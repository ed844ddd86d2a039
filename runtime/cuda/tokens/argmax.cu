// The index of the largest value of a row: one launch, a cluster of blocks a row.
#include "runtime/cuda/tokens/row_kernel.cuh"
#include "runtime/cuda/tokens/token_launchers.h"
#include "runtime/cuda/tokens/value_order.cuh"

namespace abq::runtime::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWords = 4;  // of 16 bytes that a thread has on their way at once

// Above the key of any finite value.
constexpr uint64_t kNotFinite = ~uint64_t{0};

// Value and index in one number: a larger value, and of equal values the smaller index, is larger;
// NaN and infinities are above all, 0 is below.
__device__ __forceinline__ uint64_t key_of(float value, int index) {
  if (!isfinite(value)) return kNotFinite;
  return (static_cast<uint64_t>(order_of(value)) << 32) | ~static_cast<uint32_t>(index);
}

__device__ __forceinline__ uint64_t warp_largest(uint64_t key) {
  const uint32_t order = static_cast<uint32_t>(key >> 32);
  const uint32_t top = __reduce_max_sync(kAllLanes, order);
  const uint32_t rest =
      __reduce_max_sync(kAllLanes, order == top ? static_cast<uint32_t>(key) : 0u);
  return (static_cast<uint64_t>(top) << 32) | rest;
}

__device__ uint64_t thread_largest(const float* row, const RowShape& shape, int thread,
                                   int threads) {
  uint64_t best = 0;
  for (int start = 4 * thread; start < shape.columns; start += 4 * kWords * threads) {
    float4 words[kWords];
#pragma unroll
    for (int i = 0; i < kWords; ++i)
      words[i] = load_words(row, start + 4 * i * threads, shape);
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const int column = start + 4 * i * threads;
      const float values[4] = {words[i].x, words[i].y, words[i].z, words[i].w};
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        const uint64_t key = key_of(values[b], column + b);
        if (column + b < shape.columns && key > best) best = key;
      }
    }
  }
  return best;
}

__global__ void __launch_bounds__(kThreads)
    argmax_kernel(RowsIn x, int32_t* best, const RowShape shape) {
  __shared__ uint64_t keys[kMaxCluster * kMaxRowWarps];  // of all warps, in block 0
  __shared__ ByteCounter arrived;
  const RowPlace place = row_place(shape);
  if (place.clustered) {
    if (threadIdx.x == 0) arrived.expect(static_cast<uint32_t>(place.warps) * sizeof(uint64_t));
    start_cluster();
  }
  release_next();
  wait_for_previous();
  const uint64_t own =
      warp_largest(thread_largest(x.data + x.stride * place.token, shape,
                                  place.warp * kLanes + place.lane, place.warps * kLanes));
  if (place.clustered) {
    if (place.lane == 0) store_counted(in_block(&keys[place.warp], 0), own, in_block(&arrived, 0));
    if (place.warp > 0) return;
    arrived.wait();
  } else {
    if (place.lane == 0) keys[place.warp] = own;
    __syncthreads();
    if (place.warp > 0) return;
  }
  uint64_t key = 0;
  for (int i = place.lane; i < place.warps; i += kLanes)
    key = keys[i] > key ? keys[i] : key;
  key = warp_largest(key);
  if (place.lane == 0)
    best[place.token] = key == kNotFinite ? -1 : static_cast<int32_t>(~static_cast<uint32_t>(key));
}

}  // namespace

cudaError_t launch_argmax(RowsIn x, int32_t* best, int m, int columns, bool vector,
                          cudaStream_t stream) {
  int blocks = 1;
  while (launches_overlap() && blocks < kMaxCluster && columns > blocks * 4 * kThreads)
    blocks *= 2;
  const int needed = divide_up(divide_up(columns, 4 * blocks), kLanes) * kLanes;
  const LaunchShape shape{dim3(static_cast<unsigned>(m * blocks)),
                          dim3(static_cast<unsigned>(needed < kThreads ? needed : kThreads))};
  return launch_clusters(argmax_kernel, shape, blocks, stream, x, best,
                         RowShape{columns, 0, blocks, vector});
}

}  // namespace abq::runtime::cuda
