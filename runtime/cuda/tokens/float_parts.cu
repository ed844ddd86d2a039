// Rows as sums of 16-bit parts for the tensor cores, and the sum of the products of the parts.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "runtime/cuda/tokens/row_kernel.cuh"
#include "runtime/cuda/tokens/token_launchers.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostRows = 65535;

struct HalfPart {
  using Type = __half;
  static __device__ Type round(float v) { return __float2half_rn(v); }
  static __device__ float value(Type v) { return __half2float(v); }
};
struct BFloatPart {
  using Type = __nv_bfloat16;
  static __device__ Type round(float v) { return __float2bfloat16_rn(v); }
  static __device__ float value(Type v) { return __bfloat162float(v); }
};

// The scale of half_scale() for the row, the same in all threads.
__device__ float row_scale(const float* row, int columns) {
  __shared__ uint32_t largest[kThreads / kLanes];
  float top = 0.0f;
  for (int column = static_cast<int>(threadIdx.x); column < columns; column += kThreads)
    top = fmaxf(top, fabsf(row[column]));
  const uint32_t own = __reduce_max_sync(kAllLanes, __float_as_uint(top));
  if (threadIdx.x % kLanes == 0) largest[threadIdx.x / kLanes] = own;
  __syncthreads();
  uint32_t all = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / kLanes; ++warp)
    all = max(all, largest[warp]);
  return half_scale(__uint_as_float(all));
}

// A block a row. Columns beyond the row are 0.
template <class Part>
__global__ void __launch_bounds__(kThreads)
    split_kernel(RowsIn x, int count, typename Part::Type* parts, int64_t padded, float* scales,
                 int m, int columns) {
  release_next();
  wait_for_previous();
  const int64_t token = blockIdx.x;
  const float* const row = x.data + x.stride * token;
  float inverse = 1.0f;
  if (scales != nullptr) {
    const float scale = row_scale(row, columns);
    inverse = 1.0f / scale;
    if (threadIdx.x == 0) scales[token] = scale;
  }
  for (int64_t column = threadIdx.x; column < padded; column += kThreads) {
    float rest = column < columns ? row[column] * inverse : 0.0f;
    for (int part = 0; part < count; ++part) {
      const typename Part::Type rounded = Part::round(rest);
      parts[(part * static_cast<int64_t>(m) + token) * padded + column] = rounded;
      rest -= Part::value(rounded);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    combine_kernel(const float* products, int count, const float* scales, RowsIn residual,
                   RowsOut y, int m, int columns) {
  release_next();
  wait_for_previous();
  const int column = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (column >= columns) return;
  for (int64_t token = blockIdx.y; token < m; token += gridDim.y) {
    float sum = 0.0f;
    for (int part = count - 1; part >= 0; --part)  // the small ones first
      sum += products[(part * static_cast<int64_t>(m) + token) * columns + column];
    if (scales != nullptr) sum *= scales[token];
    if (residual.data != nullptr) sum += residual.data[residual.stride * token + column];
    y.data[y.stride * token + column] = sum;
  }
}

template <class Part>
cudaError_t split_as(RowsIn x, int count, uint16_t* parts, int64_t padded, float* scales, int m,
                     int columns, cudaStream_t stream) {
  const LaunchShape shape{dim3(static_cast<unsigned>(m)), dim3(kThreads)};
  return launch(split_kernel<Part>, shape, stream, x, count,
                reinterpret_cast<typename Part::Type*>(parts), padded, scales, m, columns);
}

}  // namespace

cudaError_t launch_split_parts(RowsIn x, FloatKind kind, int count, uint16_t* parts, int64_t padded,
                               float* scales, int m, int columns, cudaStream_t stream) {
  if (kind == FloatKind::kF32) return cudaErrorInvalidValue;
  return kind == FloatKind::kF16
             ? split_as<HalfPart>(x, count, parts, padded, scales, m, columns, stream)
             : split_as<BFloatPart>(x, count, parts, padded, scales, m, columns, stream);
}

cudaError_t launch_combine_parts(const float* products, int count, const float* scales,
                                 RowsIn residual, RowsOut y, int m, int columns,
                                 cudaStream_t stream) {
  const LaunchShape shape{dim3(static_cast<unsigned>(divide_up(columns, kThreads)),
                               static_cast<unsigned>(m < kMostRows ? m : kMostRows)),
                          dim3(kThreads)};
  return launch(combine_kernel, shape, stream, products, count, scales, residual, y, m, columns);
}

}  // namespace abq::runtime::cuda
