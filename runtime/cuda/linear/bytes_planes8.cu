#include "runtime/cuda/linear/bytes_kernel.cuh"
#include "runtime/cuda/linear/bytes_launchers.h"

namespace abq::runtime::cuda {

cudaError_t launch_bytes_planes8(const WeightTiles& w, const TokenTiles& x,
                                 const LinearOutput& output, BlockShape shape,
                                 cudaStream_t stream) {
  return launch_unit<PlaneUnit<8>, 1, 2>(w, x, output, shape, stream);
}

}  // namespace abq::runtime::cuda
