// Kernel launches that overlap with the kernel ahead of them (programmatic dependent launch), and
// the two device functions that go with them.
//
// Rule: every block of every kernel calls wait_for_previous() before it reads or writes anything
// that another kernel writes or reads (weights excepted, which nobody writes), and before it exits.
// Then "the kernel before is complete" holds for all kernels before, and buffers may be used again.
#pragma once

#include <cuda_runtime.h>

#include <utility>

namespace abq::runtime::cuda {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  unsigned shared_bytes = 0;
};

// Whether this device runs code of this binary that knows the two functions below.
bool launches_overlap();

// Lets launches of `kernel` on the current device ask for `bytes` of dynamic shared memory. What an
// earlier call allowed stays allowed; from any thread.
cudaError_t allow_shared(const void* kernel, unsigned bytes);
template <class... Params>
cudaError_t allow_shared(void (*kernel)(Params...), unsigned bytes) {
  return allow_shared(reinterpret_cast<const void*>(kernel), bytes);
}

template <class... Params, class... Args>
cudaError_t launch(void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t stream,
                   Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = launches_overlap() ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, Params(std::forward<Args>(args))...);
}

#ifdef __CUDACC__
// Blocks until the kernel ahead has finished and its writes can be seen.
__device__ __forceinline__ void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Lets the kernel behind start its blocks, once all blocks of this one have called it or ended.
__device__ __forceinline__ void release_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
#endif

}  // namespace abq::runtime::cuda
