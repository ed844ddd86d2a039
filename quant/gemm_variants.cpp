#include "quant/gemm_variants.h"

#include <array>
#include <string>

namespace abq::quant {
namespace {

struct FamilyLimits {
  std::string_view name;
  int min_activation_bits;
  int max_activation_bits;
  bool groups;
  int max_preferred_pair;
};

constexpr std::array kFamilies = {
#define ABQ_GEMM_FAMILY(id, name, min_bits, max_bits, groups, preferred) GemmFamily::id,
#include "quant/gemm_variants.def"
#undef ABQ_GEMM_FAMILY
};
constexpr std::array kLimits = {
#define ABQ_GEMM_FAMILY(id, name, min_bits, max_bits, groups, preferred) \
  FamilyLimits{name, min_bits, max_bits, groups, preferred},
#include "quant/gemm_variants.def"
#undef ABQ_GEMM_FAMILY
};

const FamilyLimits& limits_of(GemmFamily family) {
  return kLimits[static_cast<size_t>(family)];
}

Status check_depth(const GemmProblem& problem) {
  if (problem.activation_bits > 8 || problem.k <= kMaxGemmDepth) return {};
  return unsupported("K={}: expected at most {} with quantized activations; use a16", problem.k,
                     kMaxGemmDepth);
}

}  // namespace

std::span<const GemmFamily> gemm_families() {
  return kFamilies;
}

std::string_view gemm_family_name(GemmFamily family) {
  return limits_of(family).name;
}

Result<GemmFamily> parse_gemm_family(std::string_view name) {
  std::string known;
  for (const GemmFamily family : kFamilies) {
    if (gemm_family_name(family) == name) return family;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", gemm_family_name(family));
  }
  return not_found("kernel family '{}': unknown; this build has {}", name, known);
}

Status can_run(GemmFamily family, const GemmProblem& problem) {
  const FamilyLimits& limits = limits_of(family);
  if (problem.spec.bits < 1 || problem.spec.code_bits() > 8) {
    return unsupported("{}: weights of {} bits; expected 1..8", limits.name, problem.spec.bits);
  }
  if (problem.activation_bits < limits.min_activation_bits ||
      problem.activation_bits > limits.max_activation_bits) {
    return unsupported("{}: activations of {} bits; expected {}..{}", limits.name,
                       problem.activation_bits, limits.min_activation_bits,
                       limits.max_activation_bits);
  }
  ABQ_RETURN_IF_ERROR(check_depth(problem));
  if (problem.spec.group_size != 0 && !limits.groups) {
    return unsupported("{}: weights in groups of {}; expected one scale per channel", limits.name,
                       problem.spec.group_size);
  }
  return {};
}

Result<GemmFamily> select_gemm(const GemmProblem& problem) {
  ABQ_RETURN_IF_ERROR(check_depth(problem));
  const int pair = problem.spec.code_bits() * problem.activation_bits;
  for (const GemmFamily family : kFamilies) {
    if (pair <= limits_of(family).max_preferred_pair && can_run(family, problem).ok())
      return family;
  }
  return unsupported(
      "weights of {} bits with activations of {} bits: no kernel; expected 1..8 bits "
      "and 1..8 or 16",
      problem.spec.bits, problem.activation_bits);
}

}  // namespace abq::quant
