// Random weights made on the device, for benchmarks of shapes.
//
// The header stands alone (no fmt, no std::span): nvcc includes it as well as the host compiler.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace abq::runtime::cuda {

// values[count], uniform in +-range, the same for the same seed.
cudaError_t fill_random_f32(void* values, int64_t count, uint32_t seed, float range,
                            cudaStream_t stream);
cudaError_t fill_random_f16(void* values, int64_t count, uint32_t seed, float range,
                            cudaStream_t stream);
cudaError_t fill_random_bf16(void* values, int64_t count, uint32_t seed, float range,
                             cudaStream_t stream);

}  // namespace abq::runtime::cuda
