// From the matrices of token_kernels.h to what the launchers take.
#pragma once

#include "runtime/cuda/token_kernels.h"
#include "runtime/cuda/tokens/token_launchers.h"

namespace abq::runtime::cuda {

inline RowsIn rows_in(const ConstRows& rows) {
  return {rows.data, rows.stride};
}
inline RowsOut rows_out(const Rows& rows) {
  return {rows.data, rows.stride};
}
inline FloatWeights float_weights(const compute::FloatMatrix& matrix) {
  const FloatKind kind = matrix.type == compute::FloatType::kF32   ? FloatKind::kF32
                         : matrix.type == compute::FloatType::kF16 ? FloatKind::kF16
                                                                   : FloatKind::kBF16;
  return {kind, matrix.data, matrix.rows, matrix.cols};
}

}  // namespace abq::runtime::cuda
