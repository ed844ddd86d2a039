// Launchers of the CUDA kernels that work on elements, rows and columns: one for each function of
// compute/tensor_device.h that is neither a matrix product nor part of attention. What a function
// computes is said there; here are shapes and scratch.
//
// All pointers are device memory: float32, row-major, without gaps, any 4-byte alignment (16-byte
// bases and sizes run faster). Launchers only enqueue work on `stream`; errors are the caller's to
// ask for (cudaGetLastError). Zero elements launch nothing, losses excepted: they have rows. An
// output may not overlap an input or the scratch unless the comment says "in place".
//
// Deterministic: no atomics; the order of every sum depends on the shapes alone. A sum that several
// blocks share leaves partial sums in `scratch`, <function>_scratch(...) floats of the caller's
// memory, undefined before and after.
//
// The header stands alone (no fmt, no std::span): nvcc includes it as well as the host compiler.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace abq::compute::cuda {

// ---- Elementwise, n elements. y may be an input (in place).
void filled(float* y, float value, int64_t n, cudaStream_t stream);
void add(const float* a, const float* b, float* y, int64_t n, cudaStream_t stream);
void multiply(const float* a, const float* b, float* y, int64_t n, cudaStream_t stream);
void accumulate(float* sum, const float* x, float factor, int64_t n, cudaStream_t stream);
void silu_mul(const float* gate, const float* up, float* y, int64_t n, cudaStream_t stream);
void silu_mul_backward(const float* gate, const float* up, const float* dy, float* dgate,
                       float* dup, int64_t n, cudaStream_t stream);
void sigmoid(const float* x, float* y, int64_t n, cudaStream_t stream);
void sigmoid_backward(const float* y, const float* dy, float* dx, int64_t n, cudaStream_t stream);
void reciprocal(const float* x, float* y, int64_t n, cudaStream_t stream);
void reciprocal_backward(const float* y, const float* dy, float* dx, int64_t n,
                         cudaStream_t stream);
void away_from_zero(const float* x, float minimum, float* y, int64_t n, cudaStream_t stream);
void negative_log_abs(const float* x, float* y, int64_t n, cudaStream_t stream);
void negative_log_abs_backward(const float* x, const float* dy, float* dx, int64_t n,
                               cudaStream_t stream);

// ---- Rows
// x, y [rows, cols], weight [cols].
void rms_norm(const float* x, const float* weight, float eps, float* y, int64_t rows, int64_t cols,
              cudaStream_t stream);
// x, dy, dx [rows, cols], weight, dweight [cols].
int64_t rms_norm_backward_scratch(int64_t rows, int64_t cols);
void rms_norm_backward(const float* x, const float* weight, float eps, const float* dy, float* dx,
                       float* dweight, float* scratch, int64_t rows, int64_t cols,
                       cudaStream_t stream);
// x, y [rows, cols], head_dim even and dividing cols, frequencies [head_dim / 2]. In place.
void rope(const float* x, int64_t head_dim, int64_t context, const float* frequencies, bool inverse,
          float* y, int64_t rows, int64_t cols, cudaStream_t stream);
// x, y [total] as segments of order * length; mix [order, order], null for order 1
// (compute/hadamard.h). x and y are different memory. A segment takes 4 bytes an element of a
// block's shared memory.
void hadamard(const float* x, const float* mix, float scale, float* y, int64_t total, int64_t order,
              int64_t length, cudaStream_t stream);
// x [outer, inner], y [outer, count, inner]; outer = size / inner.
void repeat(const float* x, float* y, int64_t outer, int64_t inner, int64_t count,
            cudaStream_t stream);
// dy [outer, count, inner], dx [outer, inner].
void repeat_backward(const float* dy, float* dx, int64_t outer, int64_t inner, int64_t count,
                     cudaStream_t stream);
// x [rows, cols], y [3, cols]: minimum, maximum, sum of squares.
int64_t column_statistics_scratch(int64_t rows, int64_t cols);
void column_statistics(const float* x, float* y, float* scratch, int64_t rows, int64_t cols,
                       cudaStream_t stream);

// ---- Quantizers
// x, y, dy, dx [rows, cols]; segment divides cols.
void fake_quantize_tokens(const float* x, int bits, int64_t segment, float* y, int64_t rows,
                          int64_t cols, cudaStream_t stream);
void fake_quantize_tokens_backward(const float* x, int bits, int64_t segment, const float* dy,
                                   float* dx, int64_t rows, int64_t cols, cudaStream_t stream);

// compute::WeightQuantizer in plain words; group_size is never 0 here (a whole row: cols).
struct WeightGrid {
  enum class Kind { kAsymmetric, kSymmetric, kBinary };
  Kind kind = Kind::kAsymmetric;
  int levels = 16;
  int steps = 15;          // symmetric only
  int zero = 8;            // symmetric only
  int64_t group_size = 0;  // divides cols
};

// w, y, dy, dw [rows, cols]; clip_low, clip_high, dclip_low, dclip_high [rows, cols / group_size],
// all null together (backward: the four of them) when nothing is clipped.
void fake_quantize_weight(const float* w, const float* clip_low, const float* clip_high,
                          const WeightGrid& grid, float* y, int64_t rows, int64_t cols,
                          cudaStream_t stream);
void fake_quantize_weight_backward(const float* w, const float* clip_low, const float* clip_high,
                                   const WeightGrid& grid, const float* dy, float* dw,
                                   float* dclip_low, float* dclip_high, int64_t rows, int64_t cols,
                                   cudaStream_t stream);

// offsets, y, dy, doffsets [rows, cols]; scales, zeros, dscales [rows, cols / group_size]. zeros
// are not read for binary weights. Null doffsets: not wanted.
void rounded_weight(const float* offsets, const float* scales, const float* zeros,
                    const WeightGrid& grid, float* y, int64_t rows, int64_t cols,
                    cudaStream_t stream);
void rounded_weight_backward(const float* offsets, const float* scales, const float* zeros,
                             const WeightGrid& grid, const float* dy, float* doffsets,
                             float* dscales, int64_t rows, int64_t cols, cudaStream_t stream);

// w, y [rows, cols], row_scale, a [rows], column_scale, b [cols]; each may be null, a and b
// together.
void affine_weight(const float* w, const float* row_scale, const float* column_scale,
                   const float* a, const float* b, float* y, int64_t rows, int64_t cols,
                   cudaStream_t stream);
// dy, dw [rows, cols], drow_scale, da [rows], dcolumn_scale, db [cols]. Null dw: not wanted. A
// gradient is made when its pointer is not null, which asks for the vector it belongs to.
int64_t affine_weight_backward_scratch(int64_t rows, int64_t cols);
void affine_weight_backward(const float* w, const float* row_scale, const float* column_scale,
                            const float* a, const float* b, const float* dy, float* dw,
                            float* drow_scale, float* dcolumn_scale, float* da, float* db,
                            float* scratch, int64_t rows, int64_t cols, cudaStream_t stream);

// ---- Losses: y, target, p, dy, dp [rows, cols], loss and dloss [1, 1]; rows and cols >= 1
int64_t mean_cosine_scratch(int64_t rows, int64_t cols);
void mean_cosine(const float* y, const float* target, float* loss, float* scratch, int64_t rows,
                 int64_t cols, cudaStream_t stream);
void mean_cosine_backward(const float* y, const float* target, const float* dloss, float* dy,
                          int64_t rows, int64_t cols, cudaStream_t stream);
int64_t mean_squared_error_scratch(int64_t rows, int64_t cols);
void mean_squared_error(const float* y, const float* target, float* loss, float* scratch,
                        int64_t rows, int64_t cols, cudaStream_t stream);
void mean_squared_error_backward(const float* y, const float* target, const float* dloss, float* dy,
                                 int64_t rows, int64_t cols, cudaStream_t stream);
// cols is the context: row r sees keys 0 .. r % cols.
int64_t symmetric_divergence_scratch(int64_t rows, int64_t cols);
void symmetric_divergence(const float* p, const float* target, float* loss, float* scratch,
                          int64_t rows, int64_t cols, cudaStream_t stream);
void symmetric_divergence_backward(const float* p, const float* target, const float* dloss,
                                   float* dp, int64_t rows, int64_t cols, cudaStream_t stream);
int64_t logit_divergence_scratch(int64_t rows, int64_t cols);
void logit_divergence(const float* y, const float* target, float* loss, float* scratch,
                      int64_t rows, int64_t cols, cudaStream_t stream);
void logit_divergence_backward(const float* y, const float* target, const float* dloss, float* dy,
                               int64_t rows, int64_t cols, cudaStream_t stream);

// ---- Optimizer: compute::AdamW in plain words
struct AdamWStep {
  double rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  int64_t step = 1;  // 1 for the first
};

// n elements; parameter, mean and variance change in place.
void adamw(float* parameter, const float* gradient, float* mean, float* variance,
           const AdamWStep& settings, int64_t n, cudaStream_t stream);

}  // namespace abq::compute::cuda
