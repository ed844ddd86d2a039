// The AVX2 GEMM's plan for one pair of widths (gemm_avx2.cpp).
#pragma once

#include "runtime/cpu/kernels.h"

namespace abq::runtime {

GemmPlan avx2_gemm_plan(int code_bits, int max_token_code, bool grouped);

}  // namespace abq::runtime
