#include "runtime/cuda/wgmma/bytes_kernel.cuh"

namespace abq::runtime::cuda::wgmma {

cudaError_t launch_bytes_groups(const WeightTiles& weights, const TokenTiles& tokens,
                                const LinearOutput& output, const LaunchChoice& choice,
                                cudaStream_t stream) {
  if (weights.encoding == TileEncoding::kBase5) {
    return launch_bytes<kGroupTokens, Base5Words, true>(weights, tokens, output, choice.cluster,
                                                        stream);
  }
  if (weights.planes <= 2) {
    return launch_bytes<kGroupTokens, PlaneWords<2>, true>(weights, tokens, output, choice.cluster,
                                                           stream);
  }
  if (weights.planes <= 4) {
    return launch_bytes<kGroupTokens, PlaneWords<4>, true>(weights, tokens, output, choice.cluster,
                                                           stream);
  }
  return launch_bytes<kGroupTokens, PlaneWords<8>, true>(weights, tokens, output, choice.cluster,
                                                         stream);
}

}  // namespace abq::runtime::cuda::wgmma
