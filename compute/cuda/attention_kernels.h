// Launchers of the CUDA kernels of attention: what lies between its matrix products.
//
// p, dp, ds are [rows, context], row r the query r % context; it sees keys 0 .. r % context, of
// which the last `window` when that is not 0. Only seen keys are read. Rules as in row_kernels.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace abq::compute::cuda {

// Which code this library has for the current device: cudaErrorNoKernelImageForDevice or
// cudaErrorUnsupportedPtxVersion when none fits.
cudaError_t kernel_code_status();

// Softmax over the seen keys, in place; the others become exactly 0.
void causal_softmax(float* p, int64_t rows, int64_t context, int64_t window, cudaStream_t stream);

// ds = p * (dp - sum(dp * p)) * scale over the seen keys. Of the others, those are set to 0 that a
// product over blocks of `block` rows and columns reads (compute/cuda/causal_blocks.h).
void causal_softmax_backward(const float* p, const float* dp, float scale, float* ds, int64_t rows,
                             int64_t context, int64_t window, int64_t block, cudaStream_t stream);

// Sets the keys that a query does not see to 0.
void zero_unseen(float* p, int64_t rows, int64_t context, int64_t window, cudaStream_t stream);

// The matrices of all (sequence, head) inside one: (b, h) starts at
// data + b * batch_stride + h / heads_each * head_stride.
struct HeadMatrices {
  const float* data = nullptr;
  int64_t batch_stride = 0;
  int64_t head_stride = 0;
  int64_t heads_each = 1;  // heads that share a matrix
};

// pointers[3, batch * heads]: the addresses of the matrices of a, of b and of c.
void matrix_pointers(const HeadMatrices& a, const HeadMatrices& b, const HeadMatrices& c,
                     int64_t batch, int64_t heads, const float** pointers, cudaStream_t stream);

}  // namespace abq::compute::cuda
