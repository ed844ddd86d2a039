#include "runtime/cuda/wgmma/bytes_kernel.cuh"

namespace abq::runtime::cuda::wgmma {
namespace {

template <class Words>
cudaError_t launch_tokens(const WeightTiles& weights, const TokenTiles& tokens,
                          const LinearOutput& output, const LaunchChoice& choice,
                          cudaStream_t stream) {
  switch (choice.tokens) {
    case 64:
      return launch_bytes<64, Words, false>(weights, tokens, output, choice.cluster, stream);
    case 128:
      return launch_bytes<128, Words, false>(weights, tokens, output, choice.cluster, stream);
    default:
      return launch_bytes<256, Words, false>(weights, tokens, output, choice.cluster, stream);
  }
}

}  // namespace

cudaError_t launch_bytes_channels(const WeightTiles& weights, const TokenTiles& tokens,
                                  const LinearOutput& output, const LaunchChoice& choice,
                                  cudaStream_t stream) {
  if (weights.encoding == TileEncoding::kBase5) {
    return launch_tokens<Base5Words>(weights, tokens, output, choice, stream);
  }
  if (weights.planes <= 2) {
    return launch_tokens<PlaneWords<2>>(weights, tokens, output, choice, stream);
  }
  if (weights.planes <= 4) {
    return launch_tokens<PlaneWords<4>>(weights, tokens, output, choice, stream);
  }
  return launch_tokens<PlaneWords<8>>(weights, tokens, output, choice, stream);
}

cudaError_t choose_launch(int64_t m, int64_t n, LaunchChoice* choice) {
  int processors = 0;
  const cudaError_t error = processor_count(&processors);
  if (error == cudaSuccess) *choice = choose_launch(m, n, processors);
  return error;
}

cudaError_t code_version(int* version) {
  cudaFuncAttributes attributes{};
  const cudaError_t error =
      cudaFuncGetAttributes(&attributes, bytes_kernel<256, PlaneWords<2>, false>);
  *version = attributes.ptxVersion;
  return error;
}

}  // namespace abq::runtime::cuda::wgmma
