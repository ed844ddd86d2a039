#include "runtime/cuda/linear/bytes_kernel.cuh"
#include "runtime/cuda/linear/bytes_launchers.h"

namespace abq::runtime::cuda {

cudaError_t launch_bytes_base5(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, BlockShape shape, cudaStream_t stream) {
  return launch_unit<Base5Unit, 1, 1>(w, x, output, shape, stream);
}

}  // namespace abq::runtime::cuda
