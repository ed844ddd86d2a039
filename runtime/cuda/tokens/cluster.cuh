// Clusters of blocks (sm_90): launches, barriers, and stores to the shared memory of another block.
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

// Two halves of a barrier of all threads of a cluster, or of the block where it is alone. What was
// written before arriving, here or in another block's shared memory, is seen after waiting.
__device__ __forceinline__ void cluster_arrive(bool clustered) {
#ifdef ABQ_HAS_CLUSTERS
  if (clustered) asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait(bool clustered) {
#ifdef ABQ_HAS_CLUSTERS
  if (clustered) {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    return;
  }
#endif
  __syncthreads();
}

// The shared address of `variable` in block `rank` of the cluster.
__device__ __forceinline__ uint32_t shared_address(const void* variable, int rank, bool clustered) {
  uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(variable));
#ifdef ABQ_HAS_CLUSTERS
  if (clustered)
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(address), "r"(rank));
#endif
  return address;
}

__device__ __forceinline__ void store_shared(uint32_t address, uint32_t value) {
#ifdef ABQ_HAS_CLUSTERS
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
#else
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
#endif
}
__device__ __forceinline__ void store_shared(uint32_t address, uint64_t value) {
#ifdef ABQ_HAS_CLUSTERS
  asm volatile("st.shared::cluster.u64 [%0], %1;" ::"r"(address), "l"(value) : "memory");
#else
  asm volatile("st.shared.u64 [%0], %1;" ::"r"(address), "l"(value) : "memory");
#endif
}
__device__ __forceinline__ void add_shared(uint32_t address, uint32_t value) {
#ifdef ABQ_HAS_CLUSTERS
  asm volatile("red.relaxed.cluster.shared::cluster.add.u32 [%0], %1;" ::"r"(address), "r"(value)
               : "memory");
#else
  asm volatile("red.shared.add.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
#endif
}
#endif

}  // namespace abq::runtime::cuda
