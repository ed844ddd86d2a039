// Clusters of blocks (sm_90): launches, and stores to the shared memory of another block.
// Below sm_90 a cluster is one block, and nothing here does anything.
#pragma once

#include <cstdint>
#include <utility>

#include "runtime/cuda/launch.cuh"

namespace abq::runtime::cuda {

// launch() with clusters of `cluster` blocks, which divides grid.x. More than one only where
// launches_overlap().
template <class... Params, class... Args>
cudaError_t launch_clusters(void (*kernel)(Params...), const LaunchShape& shape, int cluster,
                            cudaStream_t stream, Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (launches_overlap()) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = static_cast<unsigned>(cluster);
    attributes[count].val.clusterDim.y = 1;
    attributes[count++].val.clusterDim.z = 1;
  }
  config.attrs = attributes;
  config.numAttrs = count;
  return cudaLaunchKernelEx(&config, kernel, Params(std::forward<Args>(args))...);
}

#ifdef __CUDACC__
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define ABQ_HAS_CLUSTERS 1
#endif

// How blocks of a cluster tell each other numbers: each has a counter of bytes in its shared
// memory, others write beside it and count down what they wrote. A barrier of the cluster with
// release and acquire would do, but it waits for all global memory of the block: microseconds,
// here.
//
//   counter.expect(bytes)                    one thread; then start_cluster() by all threads
//   store_counted(address, value, counter)   addresses from in_block()
//   counter.wait()                           each thread that reads what arrived
struct ByteCounter {
  uint64_t barrier;

  __device__ __forceinline__ void expect(uint32_t bytes) {
#ifdef ABQ_HAS_CLUSTERS
    const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(&barrier));
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes)
                 : "memory");
#endif
  }
  __device__ __forceinline__ void wait() {
#ifdef ABQ_HAS_CLUSTERS
    const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(&barrier));
    uint32_t done = 0;
    do {
      asm volatile(
          "{\n"
          "  .reg .pred p;\n"
          "  mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;\n"
          "  selp.u32 %0, 1, 0, p;\n"
          "}"
          : "=r"(done)
          : "r"(address)
          : "memory");
    } while (done == 0);
#endif
  }
};

// All threads of all blocks, after expect(): all blocks have started and their counters count. Done
// ahead of wait_for_previous() it costs next to nothing.
__device__ __forceinline__ void start_cluster() {
#ifdef ABQ_HAS_CLUSTERS
  __syncthreads();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// The shared address of `variable` in block `rank` of the cluster.
__device__ __forceinline__ uint32_t in_block(const void* variable, int rank) {
  uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(variable));
#ifdef ABQ_HAS_CLUSTERS
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(address), "r"(rank));
#endif
  return address;
}

// Both addresses in one block.
__device__ __forceinline__ void store_counted(uint32_t address, uint32_t value, uint32_t counter) {
#ifdef ABQ_HAS_CLUSTERS
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];" ::"r"(
          address),
      "r"(value), "r"(counter)
      : "memory");
#endif
}
__device__ __forceinline__ void store_counted(uint32_t address, uint64_t value, uint32_t counter) {
#ifdef ABQ_HAS_CLUSTERS
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u64 [%0], %1, [%2];" ::"r"(
          address),
      "l"(value), "r"(counter)
      : "memory");
#endif
}
__device__ __forceinline__ void store_counted(uint32_t address, const int4& value,
                                              uint32_t counter) {
#ifdef ABQ_HAS_CLUSTERS
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.s32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(address),
      "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w), "r"(counter)
      : "memory");
#endif
}
#endif

}  // namespace abq::runtime::cuda
