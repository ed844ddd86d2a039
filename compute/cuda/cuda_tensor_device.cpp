#include "compute/cuda/cuda_tensor_device.h"

#include <algorithm>
#include <limits>

#include "compute/cuda/find_device.h"
#include "compute/cuda/row_kernels.h"

namespace abq::compute::cuda {
namespace {

BlockPool::Source device_memory() {
  return {[](int64_t bytes) -> void* {
            void* block = nullptr;
            if (cudaMalloc(&block, static_cast<size_t>(bytes)) == cudaSuccess) return block;
            static_cast<void>(cudaGetLastError());  // answered by nullptr, not by the next check
            return nullptr;
          },
          [](void* block) { static_cast<void>(cudaFree(block)); }};
}

double megabytes(int64_t bytes) {
  return static_cast<double>(bytes) * 1e-6;
}

}  // namespace

CudaTensorDevice::CudaTensorDevice()
    : pool_(std::make_shared<BlockPool>(device_memory())),
      nowhere_(std::make_shared<float>(std::numeric_limits<float>::quiet_NaN())) {}

Result<std::unique_ptr<CudaTensorDevice>> CudaTensorDevice::create() {
  std::unique_ptr<CudaTensorDevice> device(new CudaTensorDevice());
  ABQ_RETURN_IF_ERROR(device->open());
  return device;
}

Status CudaTensorDevice::open() {
  ABQ_ASSIGN_OR_RETURN(const CudaDevice device, find_cuda_device());
  name_ = device.name;
  ABQ_ASSIGN_OR_RETURN(const CublasFunctions* functions, cublas_functions());

  cudaError_t error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  if (error == cudaSuccess) error = staging_.create();
  if (error != cudaSuccess) {
    return device_error("cuda: stream and staging buffers: {}", cudaGetErrorString(error));
  }
  cublas_ = std::make_unique<Cublas>();
  ABQ_RETURN_IF_ERROR(cublas_->create(*functions, stream_));
  description_ = fmt::format("{}, {}, {} multiprocessors, cuBLAS {}", name_, device.product,
                             device.multiprocessors, cublas_->version());
  return {};
}

CudaTensorDevice::~CudaTensorDevice() {
  if (stream_ == nullptr) return;
  static_cast<void>(cudaStreamSynchronize(stream_));
  cusolver_.reset();
  cublas_.reset();
  static_cast<void>(cudaStreamDestroy(stream_));
}

void CudaTensorDevice::check(const char* function, const Tensor& result, cudaError_t error,
                             const Where& where) {
  if (error == cudaSuccess || !status_.ok()) return;
  static_cast<void>(cudaGetLastError());
  const std::string_view path = where.file_name();
  status_ = device_error("cuda: {} of [{}, {}]: {} ({}:{})", function, result.rows(), result.cols(),
                         cudaGetErrorString(error), path.substr(path.rfind('/') + 1), where.line());
}

Status CudaTensorDevice::status() {
  if (!status_.ok()) return status_;
  if (const cudaError_t error = cudaStreamSynchronize(stream_); error != cudaSuccess) {
    status_ = device_error("cuda: work enqueued before status(): {}", cudaGetErrorString(error));
  }
  return status_;
}

int64_t CudaTensorDevice::free_bytes() const {
  size_t free = 0;
  size_t total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) return 0;
  return static_cast<int64_t>(free) + pool_->unused_bytes();
}

Tensor CudaTensorDevice::allocate(int64_t rows, int64_t cols) {
  constexpr int64_t kFloat = sizeof(float);
  ABQ_CHECK(rows >= 0 && cols >= 0);
  ABQ_CHECK(cols == 0 || rows <= std::numeric_limits<int64_t>::max() / kFloat / 4 / cols);
  if (!status_.ok()) return {nowhere_, kFloat, rows, cols};
  const int64_t bytes = rows * cols * kFloat;
  if (std::shared_ptr<void> block = pool_->allocate(bytes)) {
    return {std::move(block), kFloat, rows, cols};
  }
  size_t free = 0;
  size_t total = 0;
  if (const cudaError_t error = cudaMemGetInfo(&free, &total); error != cudaSuccess) {
    status_ = device_error("cuda: allocate [{}, {}]: {}", rows, cols, cudaGetErrorString(error));
  } else {
    status_ = device_error(
        "cuda: out of memory: a matrix [{}, {}] needs {} bytes ({:.1f} MB), {} are free ({:.1f} of "
        "{:.1f} MB); lower the batch or the context",
        rows, cols, bytes, megabytes(bytes), free, megabytes(static_cast<int64_t>(free)),
        megabytes(static_cast<int64_t>(total)));
  }
  return {nowhere_, kFloat, rows, cols};
}

Tensor CudaTensorDevice::filled(int64_t rows, int64_t cols, float value) {
  Tensor y = allocate(rows, cols);
  run("filled", y, [&] { cuda::filled(y.as<float>(), value, y.size(), stream_); });
  return y;
}

Tensor CudaTensorDevice::upload(std::span<const float> values, int64_t rows, int64_t cols) {
  ABQ_CHECK(static_cast<int64_t>(values.size()) == rows * cols);
  Tensor y = allocate(rows, cols);
  if (status_.ok()) {
    check("upload", y, staging_.upload(y.data(), values.data(), y.bytes(), stream_),
          Where::current());
  }
  return y;
}

void CudaTensorDevice::download(const Tensor& x, std::span<float> values) {
  ABQ_CHECK(static_cast<int64_t>(values.size()) == x.size());
  if (status_.ok()) {
    cudaError_t error = cudaMemcpyAsync(values.data(), x.data(), values.size_bytes(),
                                        cudaMemcpyDeviceToHost, stream_);
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream_);
    check("download", x, error, Where::current());
  }
  if (!status_.ok()) std::ranges::fill(values, std::numeric_limits<float>::quiet_NaN());
}

Tensor CudaTensorDevice::copy(const Tensor& x) {
  Tensor y = allocate(x.rows(), x.cols());
  assign(y, x);
  return y;
}

void CudaTensorDevice::assign(const Tensor& to, const Tensor& from) {
  ABQ_CHECK(to.size() == from.size());
  if (!status_.ok()) return;
  check("assign", to,
        cudaMemcpyAsync(to.data(), from.data(), static_cast<size_t>(to.bytes()),
                        cudaMemcpyDeviceToDevice, stream_),
        Where::current());
}

void CudaTensorDevice::multiply(const char* function, const Product& product, const Tensor& a,
                                const Tensor& b, const Tensor& c, const Where& where) {
  if (!status_.ok()) return;
  const Status status = cublas_->multiply(product, a.as<float>(), b.as<float>(), c.as<float>());
  if (!status.ok()) {
    status_ = status.with_context(
        fmt::format("{} [{}, {}, {}]", function, product.m, product.n, product.k));
  }
  check(function, c, cudaPeekAtLastError(), where);
}

Tensor CudaTensorDevice::linear(const Tensor& x, const Tensor& w) {
  ABQ_CHECK(x.cols() == w.cols());
  Tensor y = allocate(x.rows(), w.rows());
  multiply("linear",
           {.m = x.rows(),
            .n = w.rows(),
            .k = x.cols(),
            .b_transposed = true,
            .lda = x.cols(),
            .ldb = w.cols(),
            .ldc = y.cols()},
           x, w, y);
  return y;
}

Tensor CudaTensorDevice::matmul(const Tensor& a, const Tensor& b) {
  ABQ_CHECK(a.cols() == b.rows());
  Tensor y = allocate(a.rows(), b.cols());
  multiply("matmul",
           {.m = a.rows(),
            .n = b.cols(),
            .k = a.cols(),
            .lda = a.cols(),
            .ldb = b.cols(),
            .ldc = y.cols()},
           a, b, y);
  return y;
}

Tensor CudaTensorDevice::transposed_matmul(const Tensor& a, const Tensor& b) {
  ABQ_CHECK(a.rows() == b.rows());
  Tensor y = allocate(a.cols(), b.cols());
  multiply("transposed_matmul",
           {.m = a.cols(),
            .n = b.cols(),
            .k = a.rows(),
            .a_transposed = true,
            .lda = a.cols(),
            .ldb = b.cols(),
            .ldc = y.cols()},
           a, b, y);
  return y;
}

}  // namespace abq::compute::cuda
