#include "compute/cuda/cusolver_library.h"

#include "compute/cuda/toolkit_library.h"

namespace abq::compute::cuda {
namespace {

Result<CusolverFunctions> load() {
  ABQ_ASSIGN_OR_RETURN(void* library, open_toolkit_library("cusolver"));
  CusolverFunctions f;
  const bool complete =
      find_function(library, "cusolverDnCreate", f.create) &&
      find_function(library, "cusolverDnDestroy", f.destroy) &&
      find_function(library, "cusolverDnSetStream", f.set_stream) &&
      find_function(library, "cusolverDnDpotrf_bufferSize", f.potrf_buffer_size) &&
      find_function(library, "cusolverDnDpotrf", f.potrf);
  if (!complete)
    return unsupported("cuda: cuSOLVER lacks a function ({}); install that of toolkit 12 or 13",
                       ::dlerror());
  return f;
}

Status check(cusolverStatus_t status, const char* function) {
  if (status == CUSOLVER_STATUS_SUCCESS) return {};
  return device_error("cuda: {}: status {}", function, static_cast<int>(status));
}

// By columns, the row-major lower triangle is the upper one: U^T U with U = L^T.
constexpr cublasFillMode_t kTriangle = CUBLAS_FILL_MODE_UPPER;

}  // namespace

Result<const CusolverFunctions*> cusolver_functions() {
  static const Result<CusolverFunctions> functions = load();
  if (!functions.ok()) return functions.status();
  return &functions.value();
}

Cusolver::~Cusolver() {
  if (handle_ != nullptr) static_cast<void>(functions_->destroy(handle_));
}

Status Cusolver::create(const CusolverFunctions& functions, cudaStream_t stream) {
  functions_ = &functions;
  ABQ_RETURN_IF_ERROR(check(functions_->create(&handle_), "cusolverDnCreate"));
  return check(functions_->set_stream(handle_, stream), "cusolverDnSetStream");
}

Result<int64_t> Cusolver::workspace(int64_t k, double* a) {
  int size = 0;
  ABQ_RETURN_IF_ERROR(check(functions_->potrf_buffer_size(handle_, kTriangle, static_cast<int>(k),
                                                          a, static_cast<int>(k), &size),
                            "cusolverDnDpotrf_bufferSize"));
  return int64_t{size};
}

Status Cusolver::factor(int64_t k, double* a, double* workspace, int64_t workspace_size,
                        int* info) {
  return check(functions_->potrf(handle_, kTriangle, static_cast<int>(k), a, static_cast<int>(k),
                                 workspace, static_cast<int>(workspace_size), info),
               "cusolverDnDpotrf");
}

}  // namespace abq::compute::cuda
