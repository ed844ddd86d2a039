#include "runtime/cuda/linear/bits_tokens_kernel.cuh"

#include "runtime/cuda/linear/launchers.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kSharedWithoutAsking = 47 << 10;

template <int P, int B>
cudaError_t start(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                  const TokensGrid& grid, cudaStream_t stream) {
  const LaunchShape shape{dim3(static_cast<unsigned>(grid.clusters() * grid.cluster())),
                          dim3(static_cast<unsigned>(kLanes * grid.warps())),
                          static_cast<unsigned>(grid.shared_bytes())};
  if (grid.shared_bytes() > kSharedWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(
        bits_tokens_kernel<P, B>, cudaFuncAttributeMaxDynamicSharedMemorySize, grid.shared_bytes());
    if (error != cudaSuccess) return error;
  }
  return launch_clusters(bits_tokens_kernel<P, B>, shape, grid.cluster(), stream, w, x, output,
                         grid);
}

template <int P>
cudaError_t start_planes(const WeightTiles& w, const TokenTiles& x, const LinearOutput& output,
                         const TokensGrid& grid, cudaStream_t stream) {
  return x.bits <= 4 ? start<P, 4>(w, x, output, grid, stream)
                     : start<P, 8>(w, x, output, grid, stream);
}

}  // namespace

cudaError_t launch_bits_tokens(const WeightTiles& w, const TokenTiles& x,
                               const LinearOutput& output, BlockShape shape, cudaStream_t stream) {
  const TokensGrid grid = tokens_grid(w.n, w.k, shape.tiles, shape.cluster);
  switch (w.planes) {
    case 1:
      return start_planes<1>(w, x, output, grid, stream);
    case 2:
      return start_planes<2>(w, x, output, grid, stream);
    case 3:
      return start_planes<3>(w, x, output, grid, stream);
    default:
      return start_planes<4>(w, x, output, grid, stream);
  }
}

}  // namespace abq::runtime::cuda
