#include "runtime/cuda/linear/bytes_tokens_kernel.cuh"

namespace abq::runtime::cuda {
namespace {

template <class Unit>
cudaError_t start_one_or_two(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                             BlockShape shape, cudaStream_t stream) {
  if (shape.share > 2)
    return start_bytes_tokens<Unit, 4, 1, true, kMaxTokenWarps / 2>(w, x, output, shape, stream);
  return shape.depth == 1
             ? start_bytes_tokens<Unit, 2, 1, false, kMaxTokenWarps>(w, x, output, shape, stream)
             : start_bytes_tokens<Unit, 2, 2, false, kMaxTokenWarps>(w, x, output, shape, stream);
}
template <class Unit>
cudaError_t start_three_or_four(const WeightTiles& w, const TokenTiles& x,
                                const LinearOutput& output, BlockShape shape, cudaStream_t stream) {
  return shape.share == 2
             ? start_bytes_tokens<Unit, 2, 1, true, kMaxTokenWarps>(w, x, output, shape, stream)
             : start_bytes_tokens<Unit, 3, 1, true, kMaxTokenWarps>(w, x, output, shape, stream);
}

}  // namespace

cudaError_t launch_tokens_planes(const WeightTiles& w, const TokenTiles& x,
                                 const LinearOutput& output, BlockShape shape,
                                 cudaStream_t stream) {
  switch (w.planes) {
    case 1:
      return start_one_or_two<PlaneUnit<2, 1>>(w, x, output, shape, stream);
    case 2:
      return start_one_or_two<PlaneUnit<2, 2>>(w, x, output, shape, stream);
    case 3:
      return start_three_or_four<PlaneUnit<4, 3>>(w, x, output, shape, stream);
    default:
      return start_three_or_four<PlaneUnit<4, 4>>(w, x, output, shape, stream);
  }
}

}  // namespace abq::runtime::cuda
