// The Hadamard transform of neighbouring segments of rows.
#include "runtime/cuda/launch.cuh"
#include "runtime/cuda/tokens/hadamard_block.cuh"
#include "runtime/cuda/tokens/token_launchers.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kMaxThreads = 512;

// Grid (blocks, slices).
__global__ void __launch_bounds__(kMaxThreads)
    hadamard_kernel(const HadamardRows rows, const HadamardMatrix matrix, const HadamardPlan plan) {
  extern __shared__ __align__(16) unsigned char memory[];
  HadamardBlock block(rows, matrix, plan, static_cast<int>(blockIdx.y),
                      static_cast<int>(threadIdx.x), memory);
  block.stage_signs();
  release_next();
  wait_for_previous();
  const int units = rows.m * plan.units;
#pragma unroll 1
  for (int unit = static_cast<int>(blockIdx.x); unit < units; unit += plan.blocks) {
    block.choose(unit);
    transform_unit(block, [] { __syncthreads(); });
    __syncthreads();
  }
}

}  // namespace

cudaError_t launch_hadamard(RowsIn x, const HadamardMatrix& matrix, RowsOut y, int m, int columns,
                            bool vector, const HadamardPlan& plan, cudaStream_t stream) {
  constexpr unsigned kPlainSharedBytes = 48 * 1024;
  if (plan.shared_bytes > kPlainSharedBytes) {
    const cudaError_t error =
        cudaFuncSetAttribute(hadamard_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(plan.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  const HadamardRows rows{x.data, x.stride, y.data, y.stride, m, columns, vector};
  const LaunchShape shape{
      dim3(static_cast<unsigned>(plan.blocks), static_cast<unsigned>(plan.slices)),
      dim3(static_cast<unsigned>(plan.threads)), plan.shared_bytes};
  return launch(hadamard_kernel, shape, stream, rows, matrix, plan);
}

}  // namespace abq::runtime::cuda
