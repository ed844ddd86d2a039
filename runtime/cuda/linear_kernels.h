// Launchers of the quantized linears, and the making of their weight tiles. Everything is enqueued
// on `stream`, captures into graphs, allocates nothing and is deterministic. A Status other than ok
// names kernel, shape and what CUDA said.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/cuda/views.h"
#include "runtime/stored_weights.h"
#include "support/status.h"

namespace abq::runtime::cuda {

enum class LinearKernel {
#define ABQ_LINEAR_KERNEL(kernel, name, form, text) kernel,
#include "runtime/cuda/linear_kernels.def"
#undef ABQ_LINEAR_KERNEL
};
inline constexpr LinearKernel kLinearKernels[] = {
#define ABQ_LINEAR_KERNEL(kernel, name, form, text) LinearKernel::kernel,
#include "runtime/cuda/linear_kernels.def"
#undef ABQ_LINEAR_KERNEL
};
std::string_view linear_kernel_name(LinearKernel kernel);  // "cuda.bits"
enum class TokenForm { kPlanes, kCodes, kHalves };
TokenForm token_form(LinearKernel kernel);  // what it reads

// What a kernel must be able to do.
struct LinearProblem {
  int planes = 0;
  TileEncoding encoding = TileEncoding::kPlanes;
  int group_size = 0;
  int activation_bits = 16;
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
};

// Ok, or Unsupported with the limit that the problem breaks on this device and in this binary.
Status can_run(LinearKernel kernel, const LinearProblem& problem);
// The kernel that was fastest where it was measured; every valid problem has one.
LinearKernel choose_kernel(const LinearProblem& problem);

Status run_linear(LinearKernel kernel, const WeightTiles& weights, const TokenTiles& tokens,
                  const LinearOutput& output, cudaStream_t stream);
Status run_half_linear(const WeightTiles& weights, const HalfTokens& tokens,
                       const LinearOutput& output, cudaStream_t stream);

// Device memory of one matrix of tiles, and the parts it is made from: matrices with the same spec
// and k stacked by rows (q, k, v), or two of equal n interleaved (gate, up; gated = true).
struct TilesPlan {
  WeightTiles shape;  // pointers null
  int64_t bytes = 0;  // of one allocation that holds tiles, scales, zeros and sums
};
Result<TilesPlan> plan_tiles(std::span<const StoredWeights* const> parts, bool gated);
// Fills the allocation `memory` (256-byte aligned device memory of plan.bytes) and returns the
// view. Works through `staging`, pinned or pageable host memory of its own; waits until it is done.
// Corrupt for words, scales and zero points out of range. parts with empty `packed` are filled with
// random codes on the device (benchmarks).
Result<WeightTiles> fill_tiles(const TilesPlan& plan, std::span<const StoredWeights* const> parts,
                               void* memory, cudaStream_t stream);

}  // namespace abq::runtime::cuda
