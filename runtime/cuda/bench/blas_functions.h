// cuBLAS and cuBLASLt, opened at run time for the baselines alone.
#pragma once

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "support/status.h"

namespace abq::runtime::cuda {

inline constexpr int64_t kBlasWorkspaceBytes = int64_t{32} << 20;

// cublasGemmEx, whose name the header overloads.
using BlasGemm = cublasStatus_t (*)(cublasHandle_t handle, cublasOperation_t transa,
                                    cublasOperation_t transb, int m, int n, int k,
                                    const void* alpha, const void* a, cudaDataType a_type, int lda,
                                    const void* b, cudaDataType b_type, int ldb, const void* beta,
                                    void* c, cudaDataType c_type, int ldc,
                                    cublasComputeType_t compute, cublasGemmAlgo_t algorithm);

struct BlasFunctions {
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  BlasGemm gemm = nullptr;
};

struct BlasLtFunctions {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmulDescCreate) create_product = nullptr;
  decltype(&cublasLtMatmulDescDestroy) destroy_product = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_product = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) create_layout = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) algorithms = nullptr;
  decltype(&cublasLtMatmul) multiply = nullptr;
};

// Unsupported names what was looked for.
Result<const BlasFunctions*> blas_functions();
Result<const BlasLtFunctions*> blas_lt_functions();

// Device: "<function>: cuBLAS status <number>".
Status check_blas(cublasStatus_t status, const char* function);

}  // namespace abq::runtime::cuda
