// The integer product that every kernel must equal bit by bit, computed slowly from bit planes.
//
//   sum_k qx qw = sum_{i<p} sum_{j<q} 2^(i+j) popcount(plane_i(qw) AND plane_j(qx))
//   y = s_x s_w ( sum qx qw - z_x sum qw - z_w sum qx + K z_x z_w )
#pragma once

#include <cstdint>
#include <vector>

#include "quant/affine.h"
#include "quant/packed_layout.h"
#include "support/matrix_view.h"

namespace abq::quant {

// sum over k of qx[m, k] * qw[n, k] per group: [M, N, G], exact in int64 for any K.
std::vector<int64_t> reference_code_products(const QuantizedTokens& x, const QuantizedWeights& w);

// Y[M, N] by the integer identity, the float epilogue in float64 rounded once to float32.
void reference_gemm(const QuantizedTokens& x, const QuantizedWeights& w, MatrixView<float> y);

// True when int32 holds every partial sum: K (levels-1) (2^a_bits - 1) < 2^31.
bool fits_int32(int64_t k, int max_weight_code, int activation_bits);

}  // namespace abq::quant
