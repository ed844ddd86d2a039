#include "runtime/cuda/bench/cuda_baselines.h"

#include <algorithm>

#include "runtime/cuda/bench/blas_functions.h"
#include "runtime/cuda/bench/graph_timer.h"
#include "runtime/cuda/bench/int8_product.h"
#include "runtime/cuda/bench/random_bytes.h"
#include "runtime/cuda/device_array.h"

namespace abq::runtime::cuda {
namespace {

constexpr int64_t kLongTokens = 64;
constexpr int kLongLaunches = 20;

int launches_for(int64_t m) {
  return m > kLongTokens ? kLongLaunches : kGraphLaunches;
}
int64_t aligned(int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// Copies of W, an x and room for y, of random bytes.
struct Operands {
  int copies = 0;
  int64_t stride = 0;  // bytes between copies of W
  DeviceArray<uint8_t> w;
  DeviceArray<uint8_t> x;
  DeviceArray<uint8_t> y;
  DeviceArray<uint8_t> workspace;

  uint8_t* w_at(int i) { return w.data() + i % copies * stride; }
};

// Every word is (random & keep) | set.
Result<Operands> make_operands(int64_t w_bytes, int64_t x_bytes, int64_t y_bytes, uint32_t keep,
                               uint32_t set) {
  Operands operands;
  operands.stride = aligned(w_bytes);
  ABQ_ASSIGN_OR_RETURN(operands.copies, cold_copies(operands.stride));
  ABQ_ASSIGN_OR_RETURN(operands.w, DeviceArray<uint8_t>::create(operands.copies * operands.stride));
  ABQ_ASSIGN_OR_RETURN(operands.x, DeviceArray<uint8_t>::create(aligned(x_bytes)));
  ABQ_ASSIGN_OR_RETURN(operands.y, DeviceArray<uint8_t>::create(aligned(y_bytes)));
  ABQ_ASSIGN_OR_RETURN(operands.workspace, DeviceArray<uint8_t>::create(kBlasWorkspaceBytes));
  for (DeviceArray<uint8_t>* array : {&operands.w, &operands.x}) {
    ABQ_RETURN_IF_CUDA_ERROR(fill_random(reinterpret_cast<uint32_t*>(array->data()),
                                         array->bytes() / 4, keep, set, nullptr),
                             "random operands of {} bytes", array->bytes());
  }
  ABQ_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize(), "random operands");
  return operands;
}

// A handle of cuBLAS, released with it.
struct BlasHandle {
  const BlasFunctions* functions = nullptr;
  cublasHandle_t handle = nullptr;

  BlasHandle() = default;
  BlasHandle(const BlasHandle&) = delete;
  BlasHandle& operator=(const BlasHandle&) = delete;
  ~BlasHandle() {
    if (handle != nullptr) (void)functions->destroy(handle);
  }
};

}  // namespace

Result<std::unique_ptr<CudaBaselines>> CudaBaselines::create() {
  int device = 0;
  int driver = 0;
  cudaDeviceProp properties{};
  ABQ_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device), "current device");
  ABQ_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, device), "device properties");
  ABQ_RETURN_IF_CUDA_ERROR(cudaDriverGetVersion(&driver), "driver version");
  return std::unique_ptr<CudaBaselines>(
      new CudaBaselines(fmt::format("{}, {} processors, {} MB of L2, driver {}.{}", properties.name,
                                    properties.multiProcessorCount, properties.l2CacheSize >> 20,
                                    driver / 1000, driver % 1000 / 10)));
}

Result<double> CudaBaselines::read_us(int64_t bytes) {
  return time_read(bytes, false);
}

Result<double> CudaBaselines::float16_us(int64_t m, int64_t n, int64_t k) {
  ABQ_ASSIGN_OR_RETURN(const BlasFunctions* functions, blas_functions());
  // Random signs and mantissas of numbers in [0.5, 1).
  ABQ_ASSIGN_OR_RETURN(Operands operands,
                       make_operands(2 * n * k, 2 * m * k, 2 * m * n, 0x83ff83ffu, 0x38003800u));
  BlasHandle blas;
  blas.functions = functions;
  ABQ_RETURN_IF_ERROR(check_blas(functions->create(&blas.handle), "cublasCreate"));
  const float one = 1;
  const float zero = 0;
  return time_graph(launches_for(m), [&](int i, cudaStream_t stream) -> Status {
    ABQ_RETURN_IF_ERROR(check_blas(functions->set_stream(blas.handle, stream), "cublasSetStream"));
    ABQ_RETURN_IF_ERROR(
        check_blas(functions->set_workspace(blas.handle, operands.workspace.data(),
                                            static_cast<size_t>(kBlasWorkspaceBytes)),
                   "cublasSetWorkspace"));
    // Column-major: y^T [n, m] = w [n, k] x^T [k, m].
    return check_blas(
        functions->gemm(blas.handle, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(n),
                        static_cast<int>(m), static_cast<int>(k), &one, operands.w_at(i),
                        CUDA_R_16F, static_cast<int>(k), operands.x.data(), CUDA_R_16F,
                        static_cast<int>(k), &zero, operands.y.data(), CUDA_R_16F,
                        static_cast<int>(n), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
  });
}

Result<double> CudaBaselines::int8_us(int64_t m, int64_t n, int64_t k) {
  ABQ_ASSIGN_OR_RETURN(const BlasLtFunctions* functions, blas_lt_functions());
  Int8Product product;
  ABQ_RETURN_IF_ERROR(
      product.create(*functions, m, n, k).with_context(fmt::format("M={} N={} K={}", m, n, k)));
  ABQ_ASSIGN_OR_RETURN(Operands operands, make_operands(n * k, m * k, 4 * m * n, 0xffffffffu, 0));
  double best = 0;
  for (int algorithm = 0; algorithm < product.algorithms(); ++algorithm) {
    const Result<double> us = time_graph(launches_for(m), [&](int i, cudaStream_t stream) {
      return product.enqueue(algorithm, reinterpret_cast<const int8_t*>(operands.w_at(i)),
                             reinterpret_cast<const int8_t*>(operands.x.data()),
                             reinterpret_cast<int32_t*>(operands.y.data()),
                             operands.workspace.data(), stream);
    });
    // A proposal that does not run is not a baseline, unless it is the last hope.
    if (!us.ok() && algorithm + 1 == product.algorithms() && best == 0) return us.status();
    if (us.ok()) best = best == 0 ? *us : std::min(best, *us);
  }
  return best;
}

}  // namespace abq::runtime::cuda
