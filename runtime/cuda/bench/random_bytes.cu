#include "runtime/cuda/bench/random_bytes.h"

namespace abq::runtime::cuda {
namespace {

// The finalizer of MurmurHash3 over the index.
__global__ void random_kernel(uint32_t* data, int64_t words, uint32_t keep, uint32_t set) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < words;
       i += stride) {
    uint32_t h = static_cast<uint32_t>(i) * 0x9e3779b9u + 1u;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    h ^= h >> 16;
    data[i] = (h & keep) | set;
  }
}

}  // namespace

cudaError_t fill_random(uint32_t* data, int64_t words, uint32_t keep, uint32_t set,
                        cudaStream_t stream) {
  random_kernel<<<1024, 256, 0, stream>>>(data, words, keep, set);
  return cudaGetLastError();
}

}  // namespace abq::runtime::cuda
