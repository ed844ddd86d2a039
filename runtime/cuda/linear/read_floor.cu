#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/linear/launchers.h"
#include "runtime/cuda/linear/mma.cuh"

namespace abq::runtime::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 4;  // of a thread under way

__global__ void __launch_bounds__(kThreads)
    read_kernel(const uint4* data, int64_t count, uint32_t* sink) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  uint32_t mixed = 0;
  uint4 loaded[kLoads];
  for (bool first = true; first || at < count; first = false) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      loaded[i] = make_uint4(0, 0, 0, 0);
      if (at + i * stride < count) loaded[i] = load_streaming(data + at + i * stride);
    }
    at += kLoads * stride;
    if (first) {
      release_next();
      wait_for_previous();
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
      mixed |= loaded[i].x & loaded[i].y & loaded[i].z & loaded[i].w;
  }
  if (mixed == 0x12345678u) *sink = mixed;  // keeps the loads
}

}  // namespace

cudaError_t launch_read_floor(const void* data, int64_t bytes, uint32_t* sink, int blocks,
                              bool overlap, cudaStream_t stream) {
  const LaunchShape shape{dim3(static_cast<unsigned>(blocks)), dim3(kThreads)};
  const auto* const words = static_cast<const uint4*>(data);
  if (overlap) return launch(read_kernel, shape, stream, words, bytes / 16, sink);
  read_kernel<<<shape.grid, shape.block, 0, stream>>>(words, bytes / 16, sink);
  return cudaGetLastError();
}

}  // namespace abq::runtime::cuda
