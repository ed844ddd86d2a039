// The fast Walsh-Hadamard transform of neighbouring segments, in shared memory.
#include "compute/cuda/hadamard_block.cuh"
#include "compute/cuda/map.cuh"
#include "compute/cuda/row_kernels.h"

namespace abq::compute::cuda {
namespace {

__global__ void __launch_bounds__(kHadamardThreads) hadamard_kernel(HadamardTask task) {
  extern __shared__ float values[];
  const int64_t floats = task.block_floats();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * floats;
  const int64_t rest = task.total - first;
  const HadamardBlock block{task, first, static_cast<int>(rest < floats ? rest : floats), values,
                            static_cast<int>(threadIdx.x)};
  run_hadamard(block, [] { __syncthreads(); });
}

}  // namespace

void hadamard(const float* x, const float* mix, float scale, float* y, int64_t total, int64_t order,
              int64_t length, cudaStream_t stream) {
  if (total == 0) return;
  const HadamardTask task{
      x, mix, y, total, scale, static_cast<int>(order), static_cast<int>(length)};
  const int64_t floats = task.block_floats();
  const int bytes = static_cast<int>(floats * static_cast<int64_t>(sizeof(float)));
  constexpr int kPlainSharedMemory = 48 * 1024;
  // A segment too long for the device's shared memory fails at the launch, which the caller sees.
  if (bytes > kPlainSharedMemory) {
    static_cast<void>(
        cudaFuncSetAttribute(hadamard_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  }
  const int64_t blocks = divide_up(total, floats);
  hadamard_kernel<<<static_cast<unsigned>(blocks), kHadamardThreads, static_cast<size_t>(bytes),
                    stream>>>(task);
}

}  // namespace abq::compute::cuda
