// Floats as integers of the same order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "compute/cuda/portable_math.cuh"

namespace abq::runtime::cuda {

// -0 equals 0.
__device__ __forceinline__ uint32_t order_of(float value) {
  const uint32_t bits = __float_as_uint(compute::cuda::add_rn(value, 0.0f));
  return bits ^ ((bits >> 31) ? 0xffffffffu : 0x80000000u);
}
__device__ __forceinline__ float value_of(uint32_t order) {
  return __uint_as_float(order ^ ((order >> 31) ? 0x80000000u : 0xffffffffu));
}

}  // namespace abq::runtime::cuda
