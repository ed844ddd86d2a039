// Embedding, and functions of single elements.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "runtime/cuda/tokens/row_sources.cuh"
#include "runtime/cuda/tokens/token_launchers.h"

namespace abq::runtime::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostRows = 65535;  // of a grid

struct SumOfTwo {
  __device__ void operator()(const float* x, float* y) const { y[0] = x[0] + x[1]; }
};

// y = op(a, b): four columns a thread.
template <class Op>
__global__ void __launch_bounds__(kThreads)
    pairs_kernel(RowsIn a, RowsIn b, RowsOut y, int m, const RowShape shape) {
  const int column = 4 * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  release_next();
  wait_for_previous();
  for (int token = static_cast<int>(blockIdx.y); token < m; token += static_cast<int>(gridDim.y)) {
    const float4 first = load_words(a.data + a.stride * token, column, shape);
    const float4 second = load_words(b.data + b.stride * token, column, shape);
    const float operands[4][2] = {
        {first.x, second.x}, {first.y, second.y}, {first.z, second.z}, {first.w, second.w}};
    float results[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      Op{}(operands[i], &results[i]);
    store_words(y.data + y.stride * token, column, results, shape);
  }
}

LaunchShape elementwise_shape(int m, int columns) {
  return {dim3(static_cast<unsigned>(divide_up(columns, 4 * kThreads)),
               static_cast<unsigned>(m < kMostRows ? m : kMostRows)),
          dim3(kThreads)};
}

__device__ float as_float(float v) {
  return v;
}
__device__ float as_float(__half v) {
  return __half2float(v);
}
__device__ float as_float(__nv_bfloat16 v) {
  return __bfloat162float(v);
}

template <class T>
struct alignas(4 * sizeof(T)) FourOf {
  T v[4];
};

// Four columns a thread; `vector`: rows of the table and of y can be moved four columns at once.
template <class T>
__global__ void __launch_bounds__(kThreads)
    embed_kernel(const T* table, const int32_t* ids, RowsOut y, int m, const RowShape shape) {
  const int column = 4 * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  release_next();
  wait_for_previous();
  if (column >= shape.columns) return;
  for (int token = static_cast<int>(blockIdx.y); token < m; token += static_cast<int>(gridDim.y)) {
    const T* const row = table + static_cast<int64_t>(ids[token]) * shape.columns + column;
    FourOf<T> four{};
    if (shape.vector) {
      four = *reinterpret_cast<const FourOf<T>*>(row);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (column + i < shape.columns) four.v[i] = row[i];
    }
    const float values[4] = {as_float(four.v[0]), as_float(four.v[1]), as_float(four.v[2]),
                             as_float(four.v[3])};
    store_words(y.data + y.stride * token, column, values, shape);
  }
}

template <class T>
cudaError_t embed_as(const FloatWeights& table, const int32_t* ids, RowsOut y, int m,
                     cudaStream_t stream) {
  const int columns = static_cast<int>(table.columns);
  const bool vector = columns % 4 == 0 && y.stride % 4 == 0 &&
                      reinterpret_cast<uintptr_t>(y.data) % 16 == 0 &&
                      reinterpret_cast<uintptr_t>(table.data) % (4 * sizeof(T)) == 0;
  const RowShape shape{columns, 0, 1, vector};
  return launch(embed_kernel<T>, elementwise_shape(m, columns), stream,
                static_cast<const T*>(table.data), ids, y, m, shape);
}

}  // namespace

cudaError_t launch_embed(const FloatWeights& table, const int32_t* ids, RowsOut y, int m,
                         cudaStream_t stream) {
  switch (table.kind) {
    case FloatKind::kF32:
      return embed_as<float>(table, ids, y, m, stream);
    case FloatKind::kF16:
      return embed_as<__half>(table, ids, y, m, stream);
    case FloatKind::kBF16:
      return embed_as<__nv_bfloat16>(table, ids, y, m, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t launch_silu_mul(RowsIn gate, RowsIn up, RowsOut y, int m, int columns, bool vector,
                            cudaStream_t stream) {
  return launch(pairs_kernel<compute::cuda::SiluMul>, elementwise_shape(m, columns), stream, gate,
                up, y, m, RowShape{columns, 0, 1, vector});
}

cudaError_t launch_add(RowsIn a, RowsIn b, RowsOut y, int m, int columns, bool vector,
                       cudaStream_t stream) {
  return launch(pairs_kernel<SumOfTwo>, elementwise_shape(m, columns), stream, a, b, y, m,
                RowShape{columns, 0, 1, vector});
}

}  // namespace abq::runtime::cuda
