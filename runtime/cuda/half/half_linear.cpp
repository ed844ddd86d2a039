#include "runtime/cuda/half/half_linear.h"

#include <limits>

#include "runtime/cuda/cuda_status.h"
#include "runtime/cuda/half/half_kernels.h"

namespace abq::runtime::cuda {
namespace {

// Blocks along the tokens are the grid's second dimension.
constexpr int64_t kMostTokens = int64_t{65535} * kHalfDecodeTokens;
constexpr int64_t kMostSize = std::numeric_limits<int32_t>::max() - kTileDepth;

}  // namespace

Status check_half(const LinearProblem& problem) {
  if (problem.activation_bits != 16) {
    return unsupported("cuda.half: {}-bit activations; expected 16", problem.activation_bits);
  }
  if (problem.planes < 1 || problem.planes > 8) {
    return unsupported("cuda.half: codes of {} bits; expected 1 to 8", problem.planes);
  }
  const int group = problem.group_size;
  if (group != 0 && group != 32 && group != 64 && group != 128) {
    return unsupported("cuda.half: group size {}; expected 32, 64, 128 or per channel", group);
  }
  if (problem.m < 1 || problem.m > kMostTokens) {
    return unsupported("cuda.half: {} tokens; expected 1 to {}", problem.m, kMostTokens);
  }
  if (problem.n < 1 || problem.k < 1 || problem.n > kMostSize || problem.k > kMostSize) {
    return unsupported("cuda.half: N={} K={}; expected 1 to {} each", problem.n, problem.k,
                       kMostSize);
  }
  return {};
}

Status run_half_linear(const WeightTiles& weights, const HalfTokens& tokens,
                       const LinearOutput& output, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_half({.planes = weights.planes,
                                  .encoding = weights.encoding,
                                  .group_size = weights.group_size,
                                  .activation_bits = 16,
                                  .m = tokens.m,
                                  .n = weights.n,
                                  .k = weights.k}));
  // Codes of one bit without balance are binary, and only they are (docs/quantization.md).
  if (weights.denominator != (weights.planes == 1 ? 2 : 1)) {
    return unsupported("cuda.half: zero points over {} for codes of {} bits; expected {}",
                       weights.denominator, weights.planes, weights.planes == 1 ? 2 : 1);
  }
  if (output.raw != nullptr) {
    return unsupported("cuda.half: sums of codes were asked for; activations have none");
  }
  if (tokens.k != weights.k) {
    return invalid_argument("cuda.half: tokens of {} values for weights of {} inputs", tokens.k,
                            weights.k);
  }
  const HalfArguments arguments{weights, tokens, output};
  const bool few = tokens.m <= kHalfDecodeTokens;
  ABQ_RETURN_IF_CUDA_ERROR(
      few ? launch_half_decode(arguments, stream) : launch_half_prefill(arguments, stream),
      "cuda.half: {} planes, group size {}, M={} N={} K={}", weights.planes, weights.group_size,
      tokens.m, weights.n, weights.k);
  return {};
}

}  // namespace abq::runtime::cuda
