// Which kernel runs a linear, and the one entry to all of them.
#include <algorithm>

#include "quant/gemm_variants.h"
#include "runtime/cuda/cuda_status.h"
#include "runtime/cuda/half/half_linear.h"
#include "runtime/cuda/linear/launchers.h"
#include "runtime/cuda/linear_kernels.h"
#include "runtime/cuda/wgmma/wgmma_linear.h"

namespace abq::runtime::cuda {
namespace {

// Where kernels take over from each other: to be what was measured.
constexpr int kBitsPair = 32;         // most pairs of planes of cuda.bits
constexpr int64_t kBytesTokens = 64;  // most tokens of cuda.bytes where wgmma can run
constexpr int kBitsWgmmaPair = 8;     // fewer pairs of planes than this: cuda.bits_wgmma
constexpr int64_t kMaxTokens = int64_t{8} * 65535;  // blocks of 8 tokens are a grid's second axis

Status check_problem(LinearKernel kernel, const LinearProblem& p) {
  const std::string_view name = linear_kernel_name(kernel);
  if (p.planes < 1 || p.planes > 8)
    return unsupported("{}: {} planes; weights have 1 to 8", name, p.planes);
  if (p.group_size != 0 && p.group_size != 32 && p.group_size != 64 && p.group_size != 128)
    return unsupported("{}: group size {}; it runs 32, 64, 128 and per-channel", name,
                       p.group_size);
  if (p.k < 1 || p.k > quant::kMaxGemmDepth)
    return unsupported("{}: K={}; it takes 1 to {}", name, p.k, quant::kMaxGemmDepth);
  if (p.m < 1 || p.m > kMaxTokens)
    return unsupported("{}: {} tokens; it takes 1 to {}", name, p.m, kMaxTokens);
  const bool halves = token_form(kernel) == TokenForm::kHalves;
  if (halves != (p.activation_bits == 16) ||
      (!halves && (p.activation_bits < 1 || p.activation_bits > 8)))
    return unsupported("{}: {} activation bits; it takes {}", name, p.activation_bits,
                       halves ? "16" : "1 to 8");
  return {};
}

Status check_bits(const LinearProblem& p) {
  if (p.encoding == TileEncoding::kBase5 && p.group_size > 0)
    return unsupported("cuda.bits: groups of weights in base 5; it takes them per channel");
  if (p.encoding == TileEncoding::kBase5 && p.m * p.activation_bits > kBase5BitColumns)
    return unsupported(
        "cuda.bits: {} tokens of {} bits and weights in base 5; it takes up to {} "
        "planes of tokens",
        p.m, p.activation_bits, kBase5BitColumns);
  if (p.group_size > 0 && p.m > kMaxGroupedBitTokens)
    return unsupported("cuda.bits: {} tokens with groups; it takes 1 to {}", p.m,
                       kMaxGroupedBitTokens);
  if (p.group_size == 0 && p.m * p.activation_bits > kMaxBitColumns)
    return unsupported("cuda.bits: {} tokens of {} bits; it takes up to {} planes of tokens", p.m,
                       p.activation_bits, kMaxBitColumns);
  return {};
}

LinearProblem problem_of(const WeightTiles& w, const TokenTiles& x) {
  return {w.planes, w.encoding, w.group_size, x.bits, x.m, w.n, w.k};
}

Status check_tokens(LinearKernel kernel, const WeightTiles& w, const TokenTiles& x) {
  const bool bits = token_form(kernel) == TokenForm::kPlanes;
  if (x.k != w.k) return invalid_argument("tokens of {} inputs for weights of {}", x.k, w.k);
  if ((bits ? x.planes == nullptr : x.codes == nullptr) || x.scales == nullptr ||
      x.zeros == nullptr || x.sums == nullptr || (w.group_size > 0 && x.group_sums == nullptr))
    return invalid_argument("{}: tokens without the form that it reads",
                            linear_kernel_name(kernel));
  return {};
}

}  // namespace

std::string_view linear_kernel_name(LinearKernel kernel) {
  constexpr std::string_view kNames[] = {
#define ABQ_LINEAR_KERNEL(kernel, name, form, text) name,
#include "runtime/cuda/linear_kernels.def"
#undef ABQ_LINEAR_KERNEL
  };
  return kNames[static_cast<size_t>(kernel)];
}

TokenForm token_form(LinearKernel kernel) {
  constexpr TokenForm kForms[] = {
#define ABQ_LINEAR_KERNEL(kernel, name, form, text) TokenForm::form,
#include "runtime/cuda/linear_kernels.def"
#undef ABQ_LINEAR_KERNEL
  };
  return kForms[static_cast<size_t>(kernel)];
}

Status can_run(LinearKernel kernel, const LinearProblem& problem) {
  ABQ_RETURN_IF_ERROR(check_problem(kernel, problem));
  switch (kernel) {
    case LinearKernel::kBits:
      return check_bits(problem);
    case LinearKernel::kBytesWgmma:
      return check_bytes_wgmma(problem);
    case LinearKernel::kBitsWgmma:
      return check_bits_wgmma(problem);
    case LinearKernel::kHalf:
      return check_half(problem);
    case LinearKernel::kBytes:
      return {};
  }
  return internal_error("linear kernel number {}", static_cast<int>(kernel));
}

LinearKernel choose_kernel(const LinearProblem& problem) {
  if (problem.activation_bits == 16) return LinearKernel::kHalf;
  const int pair = problem.planes * problem.activation_bits;
  const bool few_columns = problem.m * problem.activation_bits <= kMaxBitColumns;
  if (pair <= kBitsPair && problem.group_size == 0 && few_columns &&
      can_run(LinearKernel::kBits, problem).ok())
    return LinearKernel::kBits;
  if (problem.m <= kBytesTokens) return LinearKernel::kBytes;
  if (pair < kBitsWgmmaPair && can_run(LinearKernel::kBitsWgmma, problem).ok())
    return LinearKernel::kBitsWgmma;
  if (can_run(LinearKernel::kBytesWgmma, problem).ok()) return LinearKernel::kBytesWgmma;
  return LinearKernel::kBytes;
}

Status run_linear(LinearKernel kernel, const WeightTiles& weights, const TokenTiles& tokens,
                  const LinearOutput& output, cudaStream_t stream) {
  if (token_form(kernel) == TokenForm::kHalves)
    return invalid_argument("cuda.half takes tokens in halves (run_half_linear)");
  ABQ_RETURN_IF_ERROR(can_run(kernel, problem_of(weights, tokens)));
  ABQ_RETURN_IF_ERROR(check_tokens(kernel, weights, tokens));
  if (kernel == LinearKernel::kBytesWgmma) return run_bytes_wgmma(weights, tokens, output, stream);
  if (kernel == LinearKernel::kBitsWgmma) return run_bits_wgmma(weights, tokens, output, stream);
  cudaError_t error = cudaSuccess;
  if (kernel == LinearKernel::kBytes) {
    error = launch_bytes(weights, tokens, output, bytes_shape(weights, tokens), stream);
  } else if (weights.group_size > 0) {
    error = launch_bits_groups(weights, tokens, output, stream);
  } else {
    error = launch_bits(weights, tokens, output, bits_shape(weights), stream);
  }
  ABQ_RETURN_IF_CUDA_ERROR(error, "{} with M={} N={} K={}, {} planes x {} bits, groups of {}",
                           linear_kernel_name(kernel), tokens.m, weights.n, weights.k,
                           weights.planes, tokens.bits, weights.group_size);
  return {};
}

}  // namespace abq::runtime::cuda
