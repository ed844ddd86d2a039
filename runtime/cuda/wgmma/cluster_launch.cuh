// Launches of resident blocks in clusters: as many as the device has processors for, each working
// through its share of `units` (a unit is what a cluster computes between two looks at the
// schedule).
#pragma once

#include <cuda_runtime.h>

#include <atomic>

#include "runtime/cuda/launch.cuh"

namespace abq::runtime::cuda::wgmma {

inline constexpr int kBlockThreads = 384;

inline cudaError_t processor_count(int* count) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  return cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device);
}

// Launches at most as many clusters as can be resident, or `units`. `resident` caches their number
// for one kernel, cluster size and device; 0 = not known yet (threads that find it so all ask).
template <class Arguments>
cudaError_t launch_blocks(void (*kernel)(Arguments), const Arguments& arguments, int units,
                          int cluster, int shared_bytes, std::atomic<int>* resident,
                          cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(cluster));
  config.blockDim = dim3(kBlockThreads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(cluster);
  attributes[0].val.clusterDim.y = 1;
  attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  config.attrs = attributes;
  config.numAttrs = 1;
  int most = resident->load();
  if (most == 0) {
    cudaError_t error = allow_shared(kernel, static_cast<unsigned>(shared_bytes));
    if (error != cudaSuccess) return error;
    if (cluster > 1) {
      error = cudaOccupancyMaxActiveClusters(&most, kernel, &config);
    } else {
      error = processor_count(&most);
    }
    if (error != cudaSuccess) return error;
    if (most == 0) return cudaErrorLaunchOutOfResources;
    resident->store(most);
  }
  config.gridDim = dim3(static_cast<unsigned>((units < most ? units : most) * cluster));
  config.numAttrs = 2;
  return cudaLaunchKernelEx(&config, kernel, arguments);
}

}  // namespace abq::runtime::cuda::wgmma
