#include "runtime/cuda/attention/rope.cuh"

namespace abq::runtime::cuda {

cudaError_t launch_rope(const RopeLaunch& call, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(call.m),
                  static_cast<unsigned>(tiles_of(call.columns / call.head_dim, kRopeHeads)));
  return launch(rope_rows, {grid, dim3(kRopeThreads), 0}, stream, call);
}

}  // namespace abq::runtime::cuda
