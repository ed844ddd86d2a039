#include "compute/cuda/cublas_library.h"

#include <limits>

#include "compute/cuda/toolkit_library.h"

namespace abq::compute::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA recommends for Hopper

Result<CublasFunctions> load() {
  ABQ_ASSIGN_OR_RETURN(void* library, open_toolkit_library("cublas"));
  CublasFunctions f;
  const bool complete = find_function(library, "cublasCreate_v2", f.create) &&
                        find_function(library, "cublasDestroy_v2", f.destroy) &&
                        find_function(library, "cublasGetVersion_v2", f.get_version) &&
                        find_function(library, "cublasSetStream_v2", f.set_stream) &&
                        find_function(library, "cublasSetMathMode", f.set_math_mode) &&
                        find_function(library, "cublasSetWorkspace_v2", f.set_workspace) &&
                        find_function(library, "cublasGetStatusString", f.status_string) &&
                        find_function(library, "cublasSgemm_v2", f.sgemm) &&
                        find_function(library, "cublasSgemmBatched", f.sgemm_batched) &&
                        find_function(library, "cublasDgemm_v2", f.dgemm) &&
                        find_function(library, "cublasDsyrk_v2", f.dsyrk) &&
                        find_function(library, "cublasDsymm_v2", f.dsymm) &&
                        find_function(library, "cublasDtrsm_v2", f.dtrsm) &&
                        find_function(library, "cublasGemmEx", f.gemm_ex);
  if (!complete) {
    return unsupported("cuda: cuBLAS lacks a function ({}); install version 12 or 13", ::dlerror());
  }
  return f;
}

int narrow(int64_t size) {
  ABQ_CHECK(size >= 0 && size <= std::numeric_limits<int>::max());
  return static_cast<int>(size);
}

cublasOperation_t operation(bool transposed) {
  return transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
}

}  // namespace

Result<const CublasFunctions*> cublas_functions() {
  static const Result<CublasFunctions> functions = load();
  if (!functions.ok()) return functions.status();
  return &functions.value();
}

Cublas::~Cublas() {
  if (handle_ != nullptr) static_cast<void>(functions_->destroy(handle_));
  if (workspace_ != nullptr) static_cast<void>(cudaFree(workspace_));
}

Status Cublas::check(cublasStatus_t status, const char* function) const {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return device_error("cuda: {}: {}", function, functions_->status_string(status));
}

Status Cublas::create(const CublasFunctions& functions, cudaStream_t stream) {
  functions_ = &functions;
  ABQ_RETURN_IF_ERROR(check(functions_->create(&handle_), "cublasCreate"));
  if (const cudaError_t error = cudaMalloc(&workspace_, kWorkspaceBytes); error != cudaSuccess) {
    return device_error("cuda: {} MB of workspace for cuBLAS: {}", kWorkspaceBytes >> 20,
                        cudaGetErrorString(error));
  }
  ABQ_RETURN_IF_ERROR(use_stream(stream));
  // float32 products in float32: the default of cublasSgemm, said aloud. No TF32.
  return check(functions_->set_math_mode(handle_, CUBLAS_DEFAULT_MATH), "cublasSetMathMode");
}

Status Cublas::use_stream(cudaStream_t stream) {
  ABQ_RETURN_IF_ERROR(check(functions_->set_stream(handle_, stream), "cublasSetStream"));
  // After the stream, which resets it.
  return check(functions_->set_workspace(handle_, workspace_, kWorkspaceBytes),
               "cublasSetWorkspace");
}

int Cublas::version() const {
  int version = 0;
  static_cast<void>(functions_->get_version(handle_, &version));
  return version;
}

// cuBLAS is column-major: it sees every row-major matrix transposed, and
// C^T[n, m] = op(B)^T[n, k] op(A)^T[k, m].
Status Cublas::multiply(const Product& p, const float* a, const float* b, float* c) {
  if (p.m == 0 || p.n == 0) return {};
  return check(functions_->sgemm(handle_, operation(p.b_transposed), operation(p.a_transposed),
                                 narrow(p.n), narrow(p.m), narrow(p.k), &p.alpha, b, narrow(p.ldb),
                                 a, narrow(p.lda), &p.beta, c, narrow(p.ldc)),
               "cublasSgemm");
}

Status Cublas::multiply(const Product& p, FloatType type, const void* a, const void* b, float* c) {
  if (p.m == 0 || p.n == 0) return {};
  const cudaDataType data_type = type == FloatType::kF32   ? CUDA_R_32F
                                 : type == FloatType::kF16 ? CUDA_R_16F
                                                           : CUDA_R_16BF;
  return check(
      functions_->gemm_ex(handle_, operation(p.b_transposed), operation(p.a_transposed),
                          narrow(p.n), narrow(p.m), narrow(p.k), &p.alpha, b, data_type,
                          narrow(p.ldb), a, data_type, narrow(p.lda), &p.beta, c, CUDA_R_32F,
                          narrow(p.ldc), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      "cublasGemmEx");
}

Status Cublas::multiply(const Product& p, const double* a, const double* b, double* c) {
  if (p.m == 0 || p.n == 0) return {};
  const double alpha = static_cast<double>(p.alpha), beta = static_cast<double>(p.beta);
  return check(functions_->dgemm(handle_, operation(p.b_transposed), operation(p.a_transposed),
                                 narrow(p.n), narrow(p.m), narrow(p.k), &alpha, b, narrow(p.ldb), a,
                                 narrow(p.lda), &beta, c, narrow(p.ldc)),
               "cublasDgemm");
}

// Seen by columns, x is x^T[k, rows], and the elements with column >= row are the lower half.
Status Cublas::add_products(int64_t rows, int64_t k, const double* x, double* sums) {
  const double one = 1;
  return check(functions_->dsyrk(handle_, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, narrow(k),
                                 narrow(rows), &one, x, narrow(k), &one, sums, narrow(k)),
               "cublasDsyrk");
}

// c^T[k, m] = s a^T.
Status Cublas::multiply_symmetric(int64_t m, int64_t k, const double* a, const double* s,
                                  double* c) {
  const double one = 1, zero = 0;
  return check(functions_->dsymm(handle_, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_LOWER, narrow(k),
                                 narrow(m), &one, s, narrow(k), a, narrow(k), &zero, c, narrow(k)),
               "cublasDsymm");
}

// Seen by columns, l is upper, and so is the inverse: (l^T)^-1 = (l^-1)^T.
Status Cublas::solve_lower(int64_t k, const double* l, double* b) {
  const double one = 1;
  return check(functions_->dtrsm(handle_, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N,
                                 CUBLAS_DIAG_NON_UNIT, narrow(k), narrow(k), &one, l, narrow(k), b,
                                 narrow(k)),
               "cublasDtrsm");
}

Status Cublas::multiply_batched(const Product& p, const float* const* a, const float* const* b,
                                float* const* c, int64_t count) {
  if (p.m == 0 || p.n == 0 || count == 0) return {};
  return check(
      functions_->sgemm_batched(handle_, operation(p.b_transposed), operation(p.a_transposed),
                                narrow(p.n), narrow(p.m), narrow(p.k), &p.alpha, b, narrow(p.ldb),
                                a, narrow(p.lda), &p.beta, c, narrow(p.ldc), narrow(count)),
      "cublasSgemmBatched");
}

}  // namespace abq::compute::cuda
