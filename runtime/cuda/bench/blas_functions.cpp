#include "runtime/cuda/bench/blas_functions.h"

#include <dlfcn.h>

#include "compute/cuda/toolkit_library.h"

namespace abq::runtime::cuda {
namespace {

// Sets each function from the library; false when one is missing.
template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

Result<BlasFunctions> load_blas() {
  ABQ_ASSIGN_OR_RETURN(void* library, compute::cuda::open_toolkit_library("cublas"));
  BlasFunctions f;
  if (find(library, "cublasCreate_v2", f.create) && find(library, "cublasDestroy_v2", f.destroy) &&
      find(library, "cublasSetStream_v2", f.set_stream) &&
      find(library, "cublasSetWorkspace_v2", f.set_workspace) &&
      find(library, "cublasGemmEx", f.gemm)) {
    return f;
  }
  return unsupported("cuda: cuBLAS lacks a function; install version 12 or 13");
}

Result<BlasLtFunctions> load_blas_lt() {
  ABQ_ASSIGN_OR_RETURN(void* library, compute::cuda::open_toolkit_library("cublasLt"));
  BlasLtFunctions f;
  if (find(library, "cublasLtCreate", f.create) && find(library, "cublasLtDestroy", f.destroy) &&
      find(library, "cublasLtMatmulDescCreate", f.create_product) &&
      find(library, "cublasLtMatmulDescDestroy", f.destroy_product) &&
      find(library, "cublasLtMatmulDescSetAttribute", f.set_product) &&
      find(library, "cublasLtMatrixLayoutCreate", f.create_layout) &&
      find(library, "cublasLtMatrixLayoutDestroy", f.destroy_layout) &&
      find(library, "cublasLtMatmulPreferenceCreate", f.create_preference) &&
      find(library, "cublasLtMatmulPreferenceDestroy", f.destroy_preference) &&
      find(library, "cublasLtMatmulPreferenceSetAttribute", f.set_preference) &&
      find(library, "cublasLtMatmulAlgoGetHeuristic", f.algorithms) &&
      find(library, "cublasLtMatmul", f.multiply)) {
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
