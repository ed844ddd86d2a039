// Which kernel families exist and which can run a layer: the one answer for the backend's kernel
// selection and for the runtime's guard. The list is gemm_variants.def.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "quant/scheme.h"
#include "support/status.h"

namespace abq::quant {

enum class GemmFamily {
#define ABQ_GEMM_FAMILY(id, name, min_bits, max_bits, groups, preferred) id,
#include "quant/gemm_variants.def"
#undef ABQ_GEMM_FAMILY
};

// Largest K of a family with quantized activations: int32 holds the sum of a token's codes.
inline constexpr int64_t kMaxGemmDepth = int64_t{1} << 23;

// A linear layer y[M, N] = x[M, K] W[N, K]^T; every family takes any M.
struct GemmProblem {
  WeightSpec spec;
  int activation_bits = 16;
  int64_t n = 0;
  int64_t k = 0;
};

std::span<const GemmFamily> gemm_families();
// "cpu.int8"; the name that plans store.
std::string_view gemm_family_name(GemmFamily family);
// NotFound names the families there are.
Result<GemmFamily> parse_gemm_family(std::string_view name);

// Ok, or Unsupported with the limit that the problem breaks. The weight spec is checked elsewhere
// (check_weight_spec).
Status can_run(GemmFamily family, const GemmProblem& problem);
// The family that is fastest where it was measured. Unsupported when none can run.
Result<GemmFamily> select_gemm(const GemmProblem& problem);

}  // namespace abq::quant
