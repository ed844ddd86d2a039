// One int8 product of cuBLASLt with each of its proposed algorithms.
#pragma once

#include <vector>

#include "runtime/cuda/bench/blas_functions.h"

namespace abq::runtime::cuda {

// y [m, n] = x [m, k] w [n, k]^T: int8 operands, int32 result, all row-major.
class Int8Product {
 public:
  Int8Product() = default;
  Int8Product(const Int8Product&) = delete;
  Int8Product& operator=(const Int8Product&) = delete;
  ~Int8Product();

  // Unsupported when the library proposes no algorithm for the shape.
  Status create(const BlasLtFunctions& functions, int64_t m, int64_t n, int64_t k);
  int algorithms() const { return static_cast<int>(algorithms_.size()); }
  Status enqueue(int algorithm, const int8_t* w, const int8_t* x, int32_t* y, void* workspace,
                 cudaStream_t stream) const;

 private:
  Status describe(int64_t m, int64_t n, int64_t k);
  Status propose();

  const BlasLtFunctions* functions_ = nullptr;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr;
  cublasLtMatrixLayout_t x_ = nullptr;
  cublasLtMatrixLayout_t y_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  std::vector<cublasLtMatmulAlgo_t> algorithms_;
};

}  // namespace abq::runtime::cuda
