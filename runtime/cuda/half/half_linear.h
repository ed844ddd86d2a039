// Linears of float activations and quantized weights (A16): weight tiles become float16 integers,
// denominator * code - zero, in registers, activations are sums of two float16 (HalfTokens), and
// mma.sync adds their products up in float32. The 22 bits of the two parts make the result as good
// as one of float32 activations.
#pragma once

#include "runtime/cuda/linear_kernels.h"

namespace abq::runtime::cuda {

// Ok, or Unsupported with the limit that the problem breaks.
Status check_half(const LinearProblem& problem);

}  // namespace abq::runtime::cuda
