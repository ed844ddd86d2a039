#include "runtime/cuda/linear/bytes_tokens_kernel.cuh"

namespace abq::runtime::cuda {

cudaError_t launch_tokens_base5(const WeightTiles& w, const TokenTiles& x,
                                const LinearOutput& output, BlockShape shape, cudaStream_t stream) {
  return shape.depth == 1 ? start_bytes_tokens<Base5Unit, 1, 1, false, kMaxTokenWarps>(
                                w, x, output, shape, stream)
                          : start_bytes_tokens<Base5Unit, 1, 2, false, kMaxTokenWarps / 2>(
                                w, x, output, shape, stream);
}

}  // namespace abq::runtime::cuda
