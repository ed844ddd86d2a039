// Tensor-core instructions of the linears (sm_80 and newer), and their copies.
#pragma once

#include <cstdint>

#include "runtime/cuda/device_memory.cuh"

namespace abq::runtime::cuda {

// 16 bytes to shared memory, without a register on the way.
__device__ __forceinline__ void copy_async(uint32_t* shared, const uint4* address) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               :
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(address)
               : "memory");
}
// All copies of this thread are there; other threads see them behind a barrier.
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

// sums[16, 8] += popcount(a[16, 256] AND b[256, 8]); lane 4 g + t holds sums of rows g (0, 1) and
// g + 8 (2, 3), columns 2 t and 2 t + 1.
__device__ __forceinline__ void bit_mma(int32_t (&sums)[4], const uint4& a, const uint2& b) {
  asm("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}

// sums[16, 8] += a[16, 32] b[32, 8], unsigned bytes.
__device__ __forceinline__ void byte_mma(int32_t (&sums)[4], const uint32_t (&a)[4], uint32_t b0,
                                         uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace abq::runtime::cuda
