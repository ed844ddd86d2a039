// cuSOLVER, opened at run time as cuBLAS is (cublas_library.h): rounding with error compensation
// factors with it, and nothing else needs it.
#pragma once

#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <cstdint>

#include "support/status.h"

namespace abq::compute::cuda {

struct CusolverFunctions {
  decltype(&cusolverDnCreate) create = nullptr;
  decltype(&cusolverDnDestroy) destroy = nullptr;
  decltype(&cusolverDnSetStream) set_stream = nullptr;
  decltype(&cusolverDnDpotrf_bufferSize) potrf_buffer_size = nullptr;
  decltype(&cusolverDnDpotrf) potrf = nullptr;
};

// The functions of libcusolver.so.12 or .11. Unsupported names what was looked for.
Result<const CusolverFunctions*> cusolver_functions();

// A handle on one stream.
class Cusolver {
 public:
  Cusolver() = default;
  Cusolver(const Cusolver&) = delete;
  Cusolver& operator=(const Cusolver&) = delete;
  ~Cusolver();

  Status create(const CusolverFunctions& functions, cudaStream_t stream);
  // Doubles of device memory that factor() works in.
  Result<int64_t> workspace(int64_t k, double* a);
  // The lower factor L of a row-major symmetric a[k, k], L L^T = a, in place; elements with column
  // > row are neither read nor written. *info on the device becomes 0, or the order of the leading
  // minor that is not positive.
  Status factor(int64_t k, double* a, double* workspace, int64_t workspace_size, int* info);

 private:
  const CusolverFunctions* functions_ = nullptr;
  cusolverDnHandle_t handle_ = nullptr;
};

}  // namespace abq::compute::cuda
