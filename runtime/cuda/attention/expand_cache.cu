// What attention of another library needs around it: float16 keys and values, float32 results.
#include "runtime/cuda/attention/expand_cache.cuh"

#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/launch.cuh"

namespace abq::runtime::cuda {
namespace {

constexpr int kWidenThreads = 256;
constexpr int kWidenItems = 8;  // a thread's, kWidenThreads apart

struct WidenArguments {
  const __half* x;
  int64_t columns;
  float* y;
  int64_t y_stride;
};

// Grid (pieces of a row, rows).
__global__ void __launch_bounds__(kWidenThreads) widen(const WidenArguments args) {
  release_next();
  wait_for_previous();
  const int64_t row = blockIdx.y;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kWidenThreads * kWidenItems +
                        static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kWidenItems; ++i) {
    const int64_t column = first + i * kWidenThreads;
    if (column < args.columns)
      args.y[row * args.y_stride + column] = __half2float(args.x[row * args.columns + column]);
  }
}

template <int kPadded>
cudaError_t launch_expand(const ExpandLaunch& call, int64_t rows, cudaStream_t stream) {
  const int64_t items = rows * call.layer.kv_heads * (kPadded / 8);
  const dim3 grid(static_cast<unsigned>((items + kExpandThreads - 1) / kExpandThreads), 2);
  return launch(expand_cache<kPadded>, {grid, dim3(kExpandThreads)}, stream, call);
}

}  // namespace

cudaError_t launch_expand_cache(const ExpandLaunch& call, cudaStream_t stream) {
  const int64_t rows = call.past + call.rows - call.tokens;
  if (rows == 0) return cudaSuccess;
  switch (padded_head_dim(call.layer.head_dim)) {
    case 64:
      return launch_expand<64>(call, rows, stream);
    case 128:
      return launch_expand<128>(call, rows, stream);
    default:
      return launch_expand<256>(call, rows, stream);
  }
}

cudaError_t launch_widen(const void* x, int64_t m, int64_t columns, float* y, int64_t y_stride,
                         cudaStream_t stream) {
  constexpr int kPiece = kWidenThreads * kWidenItems;
  const dim3 grid(static_cast<unsigned>(tiles_of(columns, kPiece)), static_cast<unsigned>(m));
  const WidenArguments args = {static_cast<const __half*>(x), columns, y, y_stride};
  return launch(widen, {grid, dim3(kWidenThreads)}, stream, args);
}

}  // namespace abq::runtime::cuda
