// GEMM plans of the AVX-512 and AMX levels (gemm_avx512.cpp, gemm_amx.cpp).
#pragma once

#include "runtime/cpu/kernels.h"

namespace abq::runtime {

GemmPlan avx512_gemm_plan(int code_bits, int max_token_code, bool grouped);
GemmPlan amx_gemm_plan(int code_bits, int max_token_code, bool grouped);

}  // namespace abq::runtime
