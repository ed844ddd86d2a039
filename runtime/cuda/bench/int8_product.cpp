#include "runtime/cuda/bench/int8_product.h"

#include <array>

namespace abq::runtime::cuda {
namespace {

constexpr int kMostAlgorithms = 6;

}  // namespace

Int8Product::~Int8Product() {
  if (functions_ == nullptr) return;
  for (const cublasLtMatrixLayout_t layout : {w_, x_, y_}) {
    if (layout != nullptr) (void)functions_->destroy_layout(layout);
  }
  if (preference_ != nullptr) (void)functions_->destroy_preference(preference_);
  if (product_ != nullptr) (void)functions_->destroy_product(product_);
  if (handle_ != nullptr) (void)functions_->destroy(handle_);
}

Status Int8Product::create(const BlasLtFunctions& functions, int64_t m, int64_t n, int64_t k) {
  functions_ = &functions;
  ABQ_RETURN_IF_ERROR(check_blas(functions_->create(&handle_), "cublasLtCreate"));
  ABQ_RETURN_IF_ERROR(describe(m, n, k));
  return propose();
}

// Column-major, as the library sees it: y^T [n, m] = w [n, k] x^T [k, m], w stored as [k, n] and
// transposed. That is the form which its int8 kernels want.
Status Int8Product::describe(int64_t m, int64_t n, int64_t k) {
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const uint64_t rows = static_cast<uint64_t>(n);
  const uint64_t tokens = static_cast<uint64_t>(m);
  const uint64_t depth = static_cast<uint64_t>(k);
  ABQ_RETURN_IF_ERROR(
      check_blas(functions_->create_product(&product_, CUBLAS_COMPUTE_32I, CUDA_R_32I),
                 "cublasLtMatmulDescCreate"));
  ABQ_RETURN_IF_ERROR(check_blas(functions_->set_product(product_, CUBLASLT_MATMUL_DESC_TRANSA,
                                                         &transposed, sizeof(transposed)),
                                 "cublasLtMatmulDescSetAttribute"));
  ABQ_RETURN_IF_ERROR(check_blas(functions_->create_layout(&w_, CUDA_R_8I, depth, rows, k),
                                 "cublasLtMatrixLayoutCreate"));
  ABQ_RETURN_IF_ERROR(check_blas(functions_->create_layout(&x_, CUDA_R_8I, depth, tokens, k),
                                 "cublasLtMatrixLayoutCreate"));
  return check_blas(functions_->create_layout(&y_, CUDA_R_32I, rows, tokens, n),
                    "cublasLtMatrixLayoutCreate");
}

Status Int8Product::propose() {
  const uint64_t workspace = static_cast<uint64_t>(kBlasWorkspaceBytes);
  ABQ_RETURN_IF_ERROR(
      check_blas(functions_->create_preference(&preference_), "cublasLtMatmulPreferenceCreate"));
  ABQ_RETURN_IF_ERROR(
      check_blas(functions_->set_preference(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                            &workspace, sizeof(workspace)),
                 "cublasLtMatmulPreferenceSetAttribute"));
  std::array<cublasLtMatmulHeuristicResult_t, kMostAlgorithms> proposals{};
  int count = 0;
  const cublasStatus_t status = functions_->algorithms(
      handle_, product_, w_, x_, y_, y_, preference_, kMostAlgorithms, proposals.data(), &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && count == 0))
    return unsupported("cuda: cuBLASLt has no int8 product of this shape");
  ABQ_RETURN_IF_ERROR(check_blas(status, "cublasLtMatmulAlgoGetHeuristic"));
  for (int i = 0; i < count; ++i)
    algorithms_.push_back(proposals[static_cast<size_t>(i)].algo);
  return {};
}

Status Int8Product::enqueue(int algorithm, const int8_t* w, const int8_t* x, int32_t* y,
                            void* workspace, cudaStream_t stream) const {
  const int32_t one = 1;
  const int32_t zero = 0;
  return check_blas(functions_->multiply(handle_, product_, &one, w, w_, x, x_, &zero, y, y_, y, y_,
                                         &algorithms_[static_cast<size_t>(algorithm)], workspace,
                                         static_cast<size_t>(kBlasWorkspaceBytes), stream),
                    "cublasLtMatmul");
}

}  // namespace abq::runtime::cuda
