#include "runtime/cuda/wgmma/wgmma_linear.h"

#include "runtime/cuda/cuda_status.h"
#include "runtime/cuda/wgmma/launchers.h"

namespace abq::runtime::cuda {
namespace {

// int32 holds the sum of a token's codes up to here (docs/quantization.md).
constexpr int64_t kMostInputs = int64_t{1} << 23;
constexpr int64_t kMostRows = int64_t{1} << 30;
constexpr int64_t kMostTokens = int64_t{1} << 24;
// Buffers of fewer tokens are not padded to whole tiles (views.h).
constexpr int64_t kFewestTokens = 9;

// Asked once: the device and the binary do not change.
Status check_device() {
  static const Status status = []() -> Status {
    int version = 0;
    const cudaError_t error = wgmma::code_version(&version);
    if (error != cudaSuccess) {
      (void)cudaGetLastError();
      return unsupported("wgmma kernels: no usable device: {}", cudaGetErrorString(error));
    }
    int device = 0;
    int major = 0;
    ABQ_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device), "device of this thread");
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "compute capability");
    if (major != 9) {
      return unsupported("wgmma kernels: device of compute capability {}.x; they need 9.0", major);
    }
    if (version < 90) {
      return unsupported(
          "wgmma kernels: this binary runs as intermediate code for compute capability {}.{}; they "
          "need code for sm_90a",
          version / 10, version % 10);
    }
    return {};
  }();
  return status;
}

Status check_sizes(std::string_view kernel, const LinearProblem& problem) {
  if (problem.m < kFewestTokens || problem.m > kMostTokens) {
    return unsupported("{}: M={}; expected {} to {}", kernel, problem.m, kFewestTokens,
                       kMostTokens);
  }
  if (problem.n < 1 || problem.n > kMostRows) {
    return unsupported("{}: N={}; expected 1 to {}", kernel, problem.n, kMostRows);
  }
  if (problem.k < 1 || problem.k > kMostInputs) {
    return unsupported("{}: K={}; expected 1 to {}", kernel, problem.k, kMostInputs);
  }
  return {};
}

// Sums along all of K stay below 2^31.
Status check_range(std::string_view kernel, const LinearProblem& problem) {
  // One plane may be binary weights, whose codes count twice (their zero point is a half).
  const int64_t largest_weight = problem.encoding == TileEncoding::kBase5 ? 4
                                 : problem.planes == 1                    ? 2
                                                       : (int64_t{1} << problem.planes) - 1;
  const int64_t largest_code = (int64_t{1} << problem.activation_bits) - 1;
  const int64_t limit = ((int64_t{1} << 31) - 1) / (largest_weight * largest_code);
  if (problem.k > limit) {
    return unsupported("{}: K={} at codes up to {} and {}; int32 sums hold K <= {}", kernel,
                       problem.k, largest_weight, largest_code, limit);
  }
  return {};
}

LinearProblem problem_of(const WeightTiles& weights, const TokenTiles& tokens) {
  return {.planes = weights.planes,
          .encoding = weights.encoding,
          .group_size = weights.group_size,
          .activation_bits = tokens.bits,
          .m = tokens.m,
          .n = weights.n,
          .k = weights.k};
}

std::string describe(const WeightTiles& weights, const TokenTiles& tokens) {
  return fmt::format("{} planes{}, {}-bit activations, group size {}, M={} N={} K={}",
                     weights.planes, weights.encoding == TileEncoding::kBase5 ? " in base 5" : "",
                     tokens.bits, weights.group_size, tokens.m, weights.n, weights.k);
}

}  // namespace

Status check_bytes_wgmma(const LinearProblem& problem) {
  constexpr std::string_view kKernel = "cuda.bytes_wgmma";
  if (problem.planes < 1 || problem.planes > 8) {
    return unsupported("{}: codes of {} bits; expected 1 to 8", kKernel, problem.planes);
  }
  if (problem.activation_bits < 1 || problem.activation_bits > 8) {
    return unsupported("{}: {}-bit activations; expected 1 to 8", kKernel, problem.activation_bits);
  }
  const int group = problem.group_size;
  if (group != 0 && group != 32 && group != 64 && group != 128) {
    return unsupported("{}: group size {}; expected 32, 64, 128 or per channel", kKernel, group);
  }
  ABQ_RETURN_IF_ERROR(check_sizes(kKernel, problem));
  if (group == 0) ABQ_RETURN_IF_ERROR(check_range(kKernel, problem));
  return check_device();
}

Status check_bits_wgmma(const LinearProblem& problem) {
  constexpr std::string_view kKernel = "cuda.bits_wgmma";
  if (problem.encoding != TileEncoding::kPlanes) {
    return unsupported("{}: weights in base 5; expected bit planes", kKernel);
  }
  if (!wgmma::has_bits_kernel(problem.planes, problem.activation_bits)) {
    return unsupported("{}: {} weight and {} activation planes; their sums do not fit registers",
                       kKernel, problem.planes, problem.activation_bits);
  }
  if (problem.group_size != 0) {
    return unsupported("{}: group size {}; expected per channel", kKernel, problem.group_size);
  }
  ABQ_RETURN_IF_ERROR(check_sizes(kKernel, problem));
  ABQ_RETURN_IF_ERROR(check_range(kKernel, problem));
  return check_device();
}

Status run_bytes_wgmma(const WeightTiles& weights, const TokenTiles& tokens,
                       const LinearOutput& output, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_bytes_wgmma(problem_of(weights, tokens)));
  if (weights.group_size > 0) {
    ABQ_RETURN_IF_CUDA_ERROR(wgmma::launch_bytes_groups(weights, tokens, output, {}, stream),
                             "cuda.bytes_wgmma: {}", describe(weights, tokens));
    return {};
  }
  wgmma::LaunchChoice choice;
  ABQ_RETURN_IF_CUDA_ERROR(wgmma::choose_launch(tokens.m, weights.n, &choice),
                           "cuda.bytes_wgmma: processors of the device");
  ABQ_RETURN_IF_CUDA_ERROR(wgmma::launch_bytes_channels(weights, tokens, output, choice, stream),
                           "cuda.bytes_wgmma: {}", describe(weights, tokens));
  return {};
}

Status run_bits_wgmma(const WeightTiles& weights, const TokenTiles& tokens,
                      const LinearOutput& output, cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check_bits_wgmma(problem_of(weights, tokens)));
  ABQ_RETURN_IF_CUDA_ERROR(wgmma::launch_bits(weights, tokens, output, stream),
                           "cuda.bits_wgmma: {}", describe(weights, tokens));
  return {};
}

}  // namespace abq::runtime::cuda
