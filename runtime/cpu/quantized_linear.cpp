#include "runtime/cpu/quantized_linear.h"

#include <cmath>

#include "runtime/cpu/families.h"

namespace abq::runtime {
namespace {

Status check_sizes(const StoredWeights& stored) {
  const quant::PackedLayout& layout = stored.layout;
  if (!stored.spec.quantized()) {
    return invalid_argument("weights: {} bits are not quantized; use a float linear",
                            stored.spec.bits);
  }
  if (layout.n < 1 || layout.k < 1) {
    return invalid_argument("weights: shape [{}, {}] has no elements", layout.n, layout.k);
  }
  ABQ_RETURN_IF_ERROR(quant::check_weight_spec(stored.spec, layout.k));
  const quant::PackedLayout wanted =
      quant::PackedLayout::for_weights(stored.spec, layout.n, layout.k);
  if (layout != wanted) {
    return invalid_argument("weights: layout is {}, the scheme's layout is {}", layout.to_string(),
                            wanted.to_string());
  }
  if (static_cast<int64_t>(stored.packed.size()) != layout.total_bytes()) {
    return corrupt("weights: {} takes {} bytes, got {}", layout.to_string(), layout.total_bytes(),
                   stored.packed.size());
  }
  const int64_t params = layout.n * stored.spec.groups(layout.k);
  if (static_cast<int64_t>(stored.scales.size()) != params ||
      static_cast<int64_t>(stored.zeros.size()) != params) {
    return corrupt("weights: expected {} scales and zero points, got {} and {}", params,
                   stored.scales.size(), stored.zeros.size());
  }
  return {};
}

Status check_params(const StoredWeights& stored) {
  for (size_t i = 0; i < stored.scales.size(); ++i) {
    if (!std::isfinite(stored.scales[i]) || !(stored.scales[i] > 0)) {
      return corrupt("weights: scale {} is {}; expected a finite positive number", i,
                     stored.scales[i]);
    }
    if (stored.zeros[i] >= stored.spec.levels()) {
      return corrupt("weights: zero point {} is {}; expected at most {}", i,
                     static_cast<int>(stored.zeros[i]), stored.spec.levels() - 1);
    }
  }
  return {};
}

quant::GemmProblem problem_of(const StoredWeights& stored, int activation_bits) {
  return {.spec = stored.spec,
          .activation_bits = activation_bits,
          .n = stored.layout.n,
          .k = stored.layout.k};
}

}  // namespace

Result<std::unique_ptr<QuantizedLinear>> QuantizedLinear::prepare(const StoredWeights& stored,
                                                                  int activation_bits, CpuIsa isa) {
  ABQ_RETURN_IF_ERROR(check_sizes(stored));
  ABQ_ASSIGN_OR_RETURN(const quant::GemmFamily family,
                       quant::select_gemm(problem_of(stored, activation_bits)));
  return prepare(stored, activation_bits, isa, family);
}

Result<std::unique_ptr<QuantizedLinear>> QuantizedLinear::prepare(const StoredWeights& stored,
                                                                  int activation_bits, CpuIsa isa,
                                                                  quant::GemmFamily family) {
  ABQ_RETURN_IF_ERROR(check_sizes(stored));
  ABQ_RETURN_IF_ERROR(quant::can_run(family, problem_of(stored, activation_bits)));
  ABQ_RETURN_IF_ERROR(check_params(stored));
  const Kernels& kernels = kernels_for(isa);
  switch (family) {
    case quant::GemmFamily::kBits:
      return make_bit_linear(stored, activation_bits, kernels);
    case quant::GemmFamily::kWeightOnly:
      return make_weight_only_linear(stored, kernels);
    case quant::GemmFamily::kInt8:
      break;
  }
  return make_int8_linear(stored, activation_bits, kernels);
}

}  // namespace abq::runtime
