#include "runtime/cuda/bench/blas_functions.h"

#include "compute/cuda/toolkit_library.h"

namespace abq::runtime::cuda {
namespace {

using compute::cuda::find_function;

Result<BlasFunctions> load_blas() {
  ABQ_ASSIGN_OR_RETURN(void* library, compute::cuda::open_toolkit_library("cublas"));
  BlasFunctions f;
  if (find_function(library, "cublasCreate_v2", f.create) &&
      find_function(library, "cublasDestroy_v2", f.destroy) &&
      find_function(library, "cublasSetStream_v2", f.set_stream) &&
      find_function(library, "cublasSetWorkspace_v2", f.set_workspace) &&
      find_function(library, "cublasGemmEx", f.gemm)) {
    return f;
  }
  return unsupported("cuda: cuBLAS lacks a function; install version 12 or 13");
}

Result<BlasLtFunctions> load_blas_lt() {
  ABQ_ASSIGN_OR_RETURN(void* library, compute::cuda::open_toolkit_library("cublasLt"));
  BlasLtFunctions f;
  if (find_function(library, "cublasLtCreate", f.create) &&
      find_function(library, "cublasLtDestroy", f.destroy) &&
      find_function(library, "cublasLtMatmulDescCreate", f.create_product) &&
      find_function(library, "cublasLtMatmulDescDestroy", f.destroy_product) &&
      find_function(library, "cublasLtMatmulDescSetAttribute", f.set_product) &&
      find_function(library, "cublasLtMatrixLayoutCreate", f.create_layout) &&
      find_function(library, "cublasLtMatrixLayoutDestroy", f.destroy_layout) &&
      find_function(library, "cublasLtMatmulPreferenceCreate", f.create_preference) &&
      find_function(library, "cublasLtMatmulPreferenceDestroy", f.destroy_preference) &&
      find_function(library, "cublasLtMatmulPreferenceSetAttribute", f.set_preference) &&
      find_function(library, "cublasLtMatmulAlgoGetHeuristic", f.algorithms) &&
      find_function(library, "cublasLtMatmul", f.multiply)) {
    return f;
  }
  return unsupported("cuda: cuBLASLt lacks a function; install version 12 or 13");
}

}  // namespace

Result<const BlasFunctions*> blas_functions() {
  static const Result<BlasFunctions> functions = load_blas();
  if (!functions.ok()) return functions.status();
  return &functions.value();
}

Result<const BlasLtFunctions*> blas_lt_functions() {
  static const Result<BlasLtFunctions> functions = load_blas_lt();
  if (!functions.ok()) return functions.status();
  return &functions.value();
}

Status check_blas(cublasStatus_t status, const char* function) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return device_error("cuda: {}: cuBLAS status {}", function, static_cast<int>(status));
}

}  // namespace abq::runtime::cuda
