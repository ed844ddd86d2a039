#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "runtime/cuda/engine/random_fill.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxBlocks = 4096;

// The finalizer of MurmurHash3 (public domain): well mixed bits of an index.
__device__ uint32_t mixed(uint32_t value) {
  value ^= value >> 16;
  value *= 0x85ebca6bu;
  value ^= value >> 13;
  value *= 0xc2b2ae35u;
  return value ^ (value >> 16);
}

__device__ void store(float* to, float value) {
  *to = value;
}
__device__ void store(__half* to, float value) {
  *to = __float2half(value);
}
__device__ void store(__nv_bfloat16* to, float value) {
  *to = __float2bfloat16(value);
}

template <class T>
__global__ void fill_kernel(T* values, int64_t count, uint32_t seed, float range) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += step) {
    const uint32_t bits = mixed(static_cast<uint32_t>(i) ^ mixed(seed + 0x9e3779b9u));
    store(values + i, (static_cast<float>(bits >> 8) * 0x1p-23f - 1.0f) * range);
  }
}

template <class T>
cudaError_t fill(void* values, int64_t count, uint32_t seed, float range, cudaStream_t stream) {
  const int64_t blocks = (count + kThreads - 1) / kThreads;
  if (blocks == 0) return cudaSuccess;
  fill_kernel<<<static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks), kThreads, 0,
                stream>>>(static_cast<T*>(values), count, seed, range);
  return cudaGetLastError();
}

}  // namespace

cudaError_t fill_random_f32(void* values, int64_t count, uint32_t seed, float range,
                            cudaStream_t stream) {
  return fill<float>(values, count, seed, range, stream);
}
cudaError_t fill_random_f16(void* values, int64_t count, uint32_t seed, float range,
                            cudaStream_t stream) {
  return fill<__half>(values, count, seed, range, stream);
}
cudaError_t fill_random_bf16(void* values, int64_t count, uint32_t seed, float range,
                             cudaStream_t stream) {
  return fill<__nv_bfloat16>(values, count, seed, range, stream);
}

}  // namespace abq::runtime::cuda
