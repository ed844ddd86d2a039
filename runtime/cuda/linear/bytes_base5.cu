#include "runtime/cuda/linear/bytes_few.cuh"
#include "runtime/cuda/linear/bytes_kernel.cuh"
#include "runtime/cuda/linear/bytes_launchers.h"

namespace abq::runtime::cuda {

cudaError_t launch_bytes_base5(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, BlockShape shape, cudaStream_t stream) {
  if (shape.tiles > 1 && few_fits(w, x, shape.tiles))
    return launch_few(w, x, output, shape, stream);
  return launch_unit<Base5Unit, 1, 2>(w, x, output, shape, stream);
}

}  // namespace abq::runtime::cuda
