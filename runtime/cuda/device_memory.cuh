// Loads and copies of device memory that several kernels make, as PTX has them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#ifdef __CUDACC__

namespace abq::runtime::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;  // of a warp

// Memory that is read once and by one block, as weights are: kept out of L1.
__device__ __forceinline__ uint4 load_streaming(const uint4* address) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

// Asynchronous copies to shared memory (cp.async) of this thread: those since the last call become
// a group; all but the latest kPending groups are there. Other threads see them behind a barrier.
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace abq::runtime::cuda

#endif
