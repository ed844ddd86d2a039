#include "runtime/cuda/linear/bytes_kernel.cuh"
#include "runtime/cuda/linear/bytes_launchers.h"

namespace abq::runtime::cuda {

cudaError_t launch_bytes_planes2(const WeightTiles& w, const TokenTiles& x,
                                 const LinearOutput& output, BlockShape shape,
                                 cudaStream_t stream) {
  return launch_unit<PlaneUnit<2>, 2, 4>(w, x, output, shape, stream);
}

}  // namespace abq::runtime::cuda
