// Float arithmetic that rounds where it says so, the same on host and device: nvcc fuses a multiply
// and an add on its own, which would move codes against the CPU's (docs/quantization.md). The host
// side is compiled without contraction and lets tests call the formulas of the kernels.
#pragma once

#include <cuda_runtime_api.h>

#define ABQ_HOST_DEVICE __host__ __device__ __forceinline__

namespace abq::compute::cuda {

#ifdef __CUDA_ARCH__
ABQ_HOST_DEVICE float add_rn(float a, float b) {
  return __fadd_rn(a, b);
}
ABQ_HOST_DEVICE float subtract_rn(float a, float b) {
  return __fsub_rn(a, b);
}
ABQ_HOST_DEVICE float multiply_rn(float a, float b) {
  return __fmul_rn(a, b);
}
ABQ_HOST_DEVICE float divide_rn(float a, float b) {
  return __fdiv_rn(a, b);
}
#else
ABQ_HOST_DEVICE float add_rn(float a, float b) {
  return a + b;
}
ABQ_HOST_DEVICE float subtract_rn(float a, float b) {
  return a - b;
}
ABQ_HOST_DEVICE float multiply_rn(float a, float b) {
  return a * b;
}
ABQ_HOST_DEVICE float divide_rn(float a, float b) {
  return a / b;
}
#endif

}  // namespace abq::compute::cuda
