// FloatLinear: which way a product goes, and the products of cuBLAS.
//
// Quality of float32 from tensor cores: x is a sum of parts of W's type (float16: high and low
// under a power of two per token; bfloat16: three), each product of a part and a weight is exact in
// float32, and the parts are rows of one matrix, so that W is read once.
#include <cstddef>

#include "compute/cuda/cublas_library.h"
#include "runtime/cuda/cuda_status.h"
#include "runtime/cuda/tokens/rows.h"

namespace abq::runtime::cuda {
namespace {

using compute::FloatMatrix;
using compute::FloatType;
using compute::cuda::Product;

constexpr int kMaxParts = 3;
// Rows of W whose products are in scratch memory at a time.
constexpr int64_t kPieceRows = 2048;
constexpr int64_t kAlignment = 256;

int64_t aligned(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}
// 16-byte rows of parts: what cuBLAS needs for its fast kernels.
int64_t padded_columns(int64_t k) {
  return (k + 7) / 8 * 8;
}
int part_count(FloatType type) {
  return type == FloatType::kF16 ? 2 : kMaxParts;
}

// The scratch memory of one call.
struct Scratch {
  uint16_t* parts = nullptr;  // [parts * m][padded k]
  float* scales = nullptr;    // [m]
  float* products = nullptr;  // [parts * m][rows of a piece]
};

int64_t scratch_bytes(int64_t m, int64_t k, int parts) {
  return aligned(parts * m * padded_columns(k) * 2) + aligned(m * 4) +
         aligned(parts * m * kPieceRows * 4);
}

Scratch scratch_in(std::byte* memory, int64_t m, int64_t k, int parts) {
  Scratch scratch;
  scratch.parts = reinterpret_cast<uint16_t*>(memory);
  memory += aligned(parts * m * padded_columns(k) * 2);
  scratch.scales = reinterpret_cast<float*>(memory);
  memory += aligned(m * 4);
  scratch.products = reinterpret_cast<float*>(memory);
  return scratch;
}

// y = beta y + x W^T with beta 0 or 1: a residual that is not y is copied there first.
Result<float> start_from(const float* residual, int64_t residual_stride, const Rows& y,
                         cudaStream_t stream) {
  if (residual == nullptr) return 0.0f;
  if (residual == y.data && residual_stride == y.stride) return 1.0f;
  ABQ_RETURN_IF_CUDA_ERROR(
      cudaMemcpy2DAsync(y.data, static_cast<size_t>(y.stride) * sizeof(float), residual,
                        static_cast<size_t>(residual_stride) * sizeof(float),
                        static_cast<size_t>(y.columns) * sizeof(float), static_cast<size_t>(y.m),
                        cudaMemcpyDeviceToDevice, stream),
      "copy of a residual of {} x {}", y.m, y.columns);
  return 1.0f;
}

Product transposed_product(int64_t m, int64_t n, int64_t k) {
  Product product;
  product.m = m;
  product.n = n;
  product.k = k;
  product.b_transposed = true;
  product.ldb = k;
  return product;
}

}  // namespace

struct FloatLinear::State {
  bool fast = false;
  bool opened = false;
  cudaStream_t stream = nullptr;
  compute::cuda::Cublas cublas;

  Status open(cudaStream_t on);
  Status run_floats(const ConstRows& x, const FloatMatrix& weight, const float* residual,
                    int64_t residual_stride, const Rows& y);
  Status run_rounded(const ConstRows& x, const FloatMatrix& weight, const float* residual,
                     int64_t residual_stride, const Rows& y, const Scratch& scratch);
  Status run_parts(const ConstRows& x, const FloatMatrix& weight, const float* residual,
                   int64_t residual_stride, const Rows& y, const Scratch& scratch);
};

FloatLinear::~FloatLinear() {
  delete state_;
}

void FloatLinear::set_fast(bool fast) {
  if (state_ == nullptr) state_ = new State;
  state_->fast = fast;
}

int64_t FloatLinear::workspace_bytes(int64_t max_m, int64_t k) {
  return scratch_bytes(max_m, k, kMaxParts);
}

Status FloatLinear::State::open(cudaStream_t on) {
  if (!opened) {
    ABQ_ASSIGN_OR_RETURN(const compute::cuda::CublasFunctions* functions,
                         compute::cuda::cublas_functions());
    ABQ_RETURN_IF_ERROR(cublas.create(*functions, on));
    opened = true;
    stream = on;
  }
  if (stream == on) return {};
  stream = on;
  return cublas.use_stream(on);
}

Status FloatLinear::State::run_floats(const ConstRows& x, const FloatMatrix& weight,
                                      const float* residual, int64_t residual_stride,
                                      const Rows& y) {
  Product product = transposed_product(x.m, weight.rows, weight.cols);
  product.lda = x.stride;
  product.ldc = y.stride;
  ABQ_ASSIGN_OR_RETURN(product.beta, start_from(residual, residual_stride, y, stream));
  return cublas.multiply(product, x.data, static_cast<const float*>(weight.data), y.data);
}

Status FloatLinear::State::run_rounded(const ConstRows& x, const FloatMatrix& weight,
                                       const float* residual, int64_t residual_stride,
                                       const Rows& y, const Scratch& scratch) {
  const int64_t padded = padded_columns(weight.cols);
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_split_parts(rows_in(x), float_weights(weight).kind, 1, scratch.parts, padded, nullptr,
                         x.m, x.columns, stream),
      "rounding of {} x {}", x.m, x.columns);
  Product product = transposed_product(x.m, weight.rows, weight.cols);
  product.lda = padded;
  product.ldc = y.stride;
  ABQ_ASSIGN_OR_RETURN(product.beta, start_from(residual, residual_stride, y, stream));
  return cublas.multiply(product, weight.type, scratch.parts, weight.data, y.data);
}

Status FloatLinear::State::run_parts(const ConstRows& x, const FloatMatrix& weight,
                                     const float* residual, int64_t residual_stride, const Rows& y,
                                     const Scratch& scratch) {
  const int parts = part_count(weight.type);
  const int64_t padded = padded_columns(weight.cols);
  float* const scales = weight.type == FloatType::kF16 ? scratch.scales : nullptr;
  ABQ_RETURN_IF_CUDA_ERROR(
      launch_split_parts(rows_in(x), float_weights(weight).kind, parts, scratch.parts, padded,
                         scales, x.m, x.columns, stream),
      "splitting of {} x {} into {} parts", x.m, x.columns, parts);
  for (int64_t first = 0; first < weight.rows; first += kPieceRows) {
    const int64_t rows = weight.rows - first < kPieceRows ? weight.rows - first : kPieceRows;
    Product product = transposed_product(parts * static_cast<int64_t>(x.m), rows, weight.cols);
    product.lda = padded;
    product.ldc = rows;
    const auto* const piece = static_cast<const uint16_t*>(weight.data) + first * weight.cols;
    ABQ_RETURN_IF_ERROR(
        cublas.multiply(product, weight.type, scratch.parts, piece, scratch.products));
    const RowsIn added{residual == nullptr ? nullptr : residual + first, residual_stride};
    ABQ_RETURN_IF_CUDA_ERROR(
        launch_combine_parts(scratch.products, parts, scales, added, {y.data + first, y.stride},
                             x.m, static_cast<int>(rows), stream),
        "sum of {} products of {} x {}", parts, x.m, rows);
  }
  return {};
}

Status FloatLinear::run(const ConstRows& x, const FloatMatrix& device_weight, const float* residual,
                        int64_t residual_stride, const Rows& y, const Workspace& workspace,
                        cudaStream_t stream) {
  const bool fits =
      x.m == y.m && x.columns == device_weight.cols && y.columns == device_weight.rows;
  if (!fits) {
    return internal_error("cuda: float linear: x {} x {}, W {} x {}, y {} x {} do not fit", x.m,
                          x.columns, device_weight.rows, device_weight.cols, y.m, y.columns);
  }
  if (x.m == 0 || y.columns == 0) return {};
  const bool fast = state_ != nullptr && state_->fast;
  if (x.m <= kFewRows && !fast) {
    ABQ_RETURN_IF_CUDA_ERROR(
        launch_float_rows(rows_in(x), float_weights(device_weight), {residual, residual_stride},
                          rows_out(y), x.m, stream),
        "float linear of {} tokens, {} x {}", x.m, device_weight.rows, device_weight.cols);
    return {};
  }

  if (state_ == nullptr) state_ = new State;
  ABQ_RETURN_IF_ERROR(state_->open(stream));
  if (device_weight.type == FloatType::kF32)
    return state_->run_floats(x, device_weight, residual, residual_stride, y);
  const int parts = fast ? 1 : part_count(device_weight.type);
  const int64_t needed = scratch_bytes(x.m, x.columns, parts);
  if (workspace.bytes < needed) {
    return internal_error("cuda: float linear of {} x {}: {} bytes of workspace, {} needed", x.m,
                          x.columns, workspace.bytes, needed);
  }
  const Scratch scratch =
      scratch_in(static_cast<std::byte*>(workspace.data), x.m, x.columns, parts);
  return fast ? state_->run_rounded(x, device_weight, residual, residual_stride, y, scratch)
              : state_->run_parts(x, device_weight, residual, residual_stride, y, scratch);
}

}  // namespace abq::runtime::cuda
