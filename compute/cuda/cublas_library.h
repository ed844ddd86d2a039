// cuBLAS, opened at run time: half a gigabyte that learning and float linears of many tokens need,
// so neither the build nor the installed folder carries it.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "compute/device.h"
#include "support/status.h"

namespace abq::compute::cuda {

struct CublasFunctions {
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasGetVersion_v2) get_version = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetMathMode) set_math_mode = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  decltype(&cublasGetStatusString) status_string = nullptr;
  decltype(&cublasSgemm_v2) sgemm = nullptr;
  decltype(&cublasSgemmBatched) sgemm_batched = nullptr;
  decltype(&cublasDgemm_v2) dgemm = nullptr;
  decltype(&cublasDsyrk_v2) dsyrk = nullptr;
  decltype(&cublasDsymm_v2) dsymm = nullptr;
  decltype(&cublasDtrsm_v2) dtrsm = nullptr;
  // Spelled out: the header has an overload of the name.
  cublasStatus_t (*gemm_ex)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                            const void*, const void*, cudaDataType, int, const void*, cudaDataType,
                            int, const void*, void*, cudaDataType, int, cublasComputeType_t,
                            cublasGemmAlgo_t) = nullptr;
};

// The functions of libcublas.so.13 or .12, found by the loader or in the usual folders of the CUDA
// toolkit. Unsupported names what was looked for.
Result<const CublasFunctions*> cublas_functions();

// C[m, n] = alpha op(A)[m, k] op(B)[k, n] + beta C, all row-major; op transposes where it is asked
// to, and ld is the distance between the rows of a matrix as it is stored.
struct Product {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  bool a_transposed = false;
  bool b_transposed = false;
  int64_t lda = 0;
  int64_t ldb = 0;
  int64_t ldc = 0;
  float alpha = 1;
  float beta = 0;
};

// A handle on one stream with a workspace of its own: without one, cuBLAS may choose another
// algorithm, so other bits, when memory is short.
class Cublas {
 public:
  Cublas() = default;
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;
  ~Cublas();

  Status create(const CublasFunctions& functions, cudaStream_t stream);
  int version() const;  // as cuBLAS counts: 130001 is 13.0.1
  // What follows is enqueued on `stream`.
  Status use_stream(cudaStream_t stream);
  Status multiply(const Product& product, const float* a, const float* b, float* c);
  // A and B of one type, C float32, sums in float32.
  Status multiply(const Product& product, FloatType type, const void* a, const void* b, float* c);
  Status multiply(const Product& product, const double* a, const double* b, double* c);
  // sums[k, k] += x[rows, k]^T x, elements with column >= row alone.
  Status add_products(int64_t rows, int64_t k, const double* x, double* sums);
  // c[m, k] = a[m, k] s for a symmetric s[k, k] of which elements with column >= row are read.
  Status multiply_symmetric(int64_t m, int64_t k, const double* a, const double* s, double* c);
  // b = l^-1 for a lower triangular l[k, k] when b is the identity.
  Status solve_lower(int64_t k, const double* l, double* b);
  // `count` products of one shape over device arrays of device pointers.
  Status multiply_batched(const Product& product, const float* const* a, const float* const* b,
                          float* const* c, int64_t count);

 private:
  Status check(cublasStatus_t status, const char* function) const;

  const CublasFunctions* functions_ = nullptr;
  cublasHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
};

}  // namespace abq::compute::cuda
