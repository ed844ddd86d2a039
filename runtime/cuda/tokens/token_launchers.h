// The launches behind token_kernels.h, free of Status: .cu files and the host code that wraps them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "runtime/cuda/tokens/hadamard_row_plan.h"
#include "runtime/cuda/tokens/token_plan.h"
#include "runtime/cuda/views.h"
#include "runtime/token_draw.h"

namespace abq::runtime::cuda {

// Rows `stride` floats apart.
struct RowsIn {
  const float* data;
  int64_t stride;
};
struct RowsOut {
  float* data;
  int64_t stride;
};
// A weight matrix [rows, columns].
enum class FloatKind { kF32, kF16, kBF16 };
struct FloatWeights {
  FloatKind kind;
  const void* data;
  int64_t rows;
  int64_t columns;
};

// `vector` of these: pointers are multiples of 16 bytes, strides and columns of 4.
cudaError_t launch_rms_norm(RowsIn x, const float* weight, float eps, RowsOut y, int m, int columns,
                            bool vector, const TokenPlan& plan, cudaStream_t stream);
cudaError_t launch_rms_norm_quantize(RowsIn x, const float* weight, float eps, RowsOut y,
                                     const TokenTiles& tokens, bool vector, const TokenPlan& plan,
                                     cudaStream_t stream);
cudaError_t launch_quantize(RowsIn x, const TokenTiles& tokens, bool vector, const TokenPlan& plan,
                            cudaStream_t stream);
cudaError_t launch_silu_mul_quantize(RowsIn gate, RowsIn up, const TokenTiles& tokens, bool vector,
                                     const TokenPlan& plan, cudaStream_t stream);
cudaError_t launch_split_halves(RowsIn x, const HalfTokens& tokens, bool vector,
                                const TokenPlan& plan, cudaStream_t stream);

cudaError_t launch_embed(const FloatWeights& table, const int32_t* ids, RowsOut y, int m,
                         cudaStream_t stream);
cudaError_t launch_silu_mul(RowsIn gate, RowsIn up, RowsOut y, int m, int columns, bool vector,
                            cudaStream_t stream);
cudaError_t launch_add(RowsIn a, RowsIn b, RowsOut y, int m, int columns, bool vector,
                       cudaStream_t stream);
// Each matrix.size() neighbours transformed; `plan` is plan_hadamard()'s, or one to be timed.
cudaError_t launch_hadamard(RowsIn x, const HadamardMatrix& matrix, RowsOut y, int m, int columns,
                            bool vector, const HadamardPlan& plan, cudaStream_t stream);
// The same, quantized; y may be null or receives the transformed values too.
cudaError_t launch_hadamard_quantize(RowsIn x, const HadamardMatrix& matrix, RowsOut y,
                                     const TokenTiles& tokens, bool vector,
                                     const HadamardRowPlan& plan, cudaStream_t stream);
cudaError_t launch_argmax(RowsIn x, int32_t* best, int m, int columns, bool vector,
                          cudaStream_t stream);
cudaError_t launch_draw(RowsIn logits, const TokenDraw* draws, int32_t* ids, int m, int columns,
                        cudaStream_t stream);

// y = x W^T (+ residual) for m <= kFewRows tokens.
constexpr int kFewRows = 8;
cudaError_t launch_float_rows(RowsIn x, const FloatWeights& weights, RowsIn residual, RowsOut y,
                              int m, cudaStream_t stream);

// x as sums of parts of a 16-bit type: parts[p] is the matrix [m, columns] at p * m * padded, rows
// `padded` apart. scales [m], powers of two, may be null: then no part is scaled.
cudaError_t launch_split_parts(RowsIn x, FloatKind kind, int count, uint16_t* parts, int64_t padded,
                               float* scales, int m, int columns, cudaStream_t stream);
// y = scales * (sum of `count` products, products[p] [m, columns] at p * m * columns) + residual.
cudaError_t launch_combine_parts(const float* products, int count, const float* scales,
                                 RowsIn residual, RowsOut y, int m, int columns,
                                 cudaStream_t stream);

}  // namespace abq::runtime::cuda
