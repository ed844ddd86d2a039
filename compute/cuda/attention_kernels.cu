#include "compute/cuda/attention_kernels.h"

#include <cuda_runtime.h>

#include <cmath>

namespace abq::compute::cuda {
namespace {

constexpr int kThreads = 128;  // a row is one block's
constexpr int kWarps = kThreads / 32;

// The keys that a row's query sees.
struct Seen {
  int64_t first;
  int64_t last;  // the query's own position

  __device__ bool has(int64_t key) const { return key >= first && key <= last; }
};

__device__ Seen seen_keys(int64_t row, int64_t context, int64_t window) {
  const int64_t query = row % context;
  return {window > 0 && query >= window ? query - window + 1 : 0, query};
}

// kWidth neighbouring floats, moved by one access.
template <int kWidth>
struct Lanes;
template <>
struct Lanes<1> {
  using Access = float;
};
template <>
struct Lanes<4> {
  using Access = float4;
};

template <int kWidth>
__device__ void load(const float* from, float (&values)[kWidth]) {
  using Access = typename Lanes<kWidth>::Access;
  *reinterpret_cast<Access*>(values) = *reinterpret_cast<const Access*>(from);
}

template <int kWidth>
__device__ void store(float* to, const float (&values)[kWidth]) {
  using Access = typename Lanes<kWidth>::Access;
  *reinterpret_cast<Access*>(to) = *reinterpret_cast<const Access*>(values);
}

struct Larger {
  static constexpr float kStart = -INFINITY;
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Sum {
  static constexpr float kStart = 0;
  __device__ float operator()(float a, float b) const { return a + b; }
};

// The same value for all threads of the block, combined in an order that depends on nothing.
template <class Combine>
__device__ float block_reduce(float value, Combine combine) {
  __shared__ float warps[kWarps];
  for (int distance = 16; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(~0U, value, distance));
  __syncthreads();  // the previous reduction has been read
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = warps[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp)
    value = combine(value, warps[warp]);
  return value;
}

// The first column of a thread, and the step to its next one, for columns from `first` on.
template <int kWidth>
__device__ int64_t first_column(int64_t first) {
  return first / kWidth * kWidth + static_cast<int64_t>(threadIdx.x) * kWidth;
}
template <int kWidth>
inline constexpr int64_t kStep = int64_t{kThreads} * kWidth;

// Three passes over the seen part of the row, of which the second and third find it in the cache.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    causal_softmax_kernel(float* p, int64_t context, int64_t window) {
  const int64_t row = blockIdx.x;
  const Seen seen = seen_keys(row, context, window);
  float* values = p + row * context;
  alignas(4 * kWidth) float v[kWidth];

  float largest = Larger::kStart;
  for (int64_t c = first_column<kWidth>(seen.first); c <= seen.last; c += kStep<kWidth>) {
    load<kWidth>(values + c, v);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      if (seen.has(c + i)) largest = fmaxf(largest, v[i]);
  }
  largest = block_reduce(largest, Larger());

  float sum = Sum::kStart;
  for (int64_t c = first_column<kWidth>(seen.first); c <= seen.last; c += kStep<kWidth>) {
    load<kWidth>(values + c, v);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      if (seen.has(c + i)) sum += expf(v[i] - largest);
  }
  const float factor = 1.0F / block_reduce(sum, Sum());

  for (int64_t c = first_column<kWidth>(0); c < context; c += kStep<kWidth>) {
    if (c <= seen.last && c + kWidth > seen.first) load<kWidth>(values + c, v);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      v[i] = seen.has(c + i) ? expf(v[i] - largest) * factor : 0.0F;
    store<kWidth>(values + c, v);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    causal_softmax_backward_kernel(const float* p, const float* dp, float scale, float* ds,
                                   int64_t context, int64_t window, int64_t block) {
  const int64_t row = blockIdx.x;
  const Seen seen = seen_keys(row, context, window);
  p += row * context;
  dp += row * context;
  ds += row * context;
  alignas(4 * kWidth) float weight[kWidth];
  alignas(4 * kWidth) float gradient[kWidth];

  float sum = Sum::kStart;
  for (int64_t c = first_column<kWidth>(seen.first); c <= seen.last; c += kStep<kWidth>) {
    load<kWidth>(p + c, weight);
    load<kWidth>(dp + c, gradient);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      if (seen.has(c + i)) sum += gradient[i] * weight[i];
  }
  sum = block_reduce(sum, Sum());

  // Whole blocks around the seen keys of all queries of this row's block.
  const int64_t block_row = seen.last / block * block;
  const int64_t written = window > 0 && block_row >= window ? block_row - window + 1 : 0;
  const int64_t end = block_row + block < context ? block_row + block : context;
  for (int64_t c = first_column<kWidth>(written / block * block); c < end; c += kStep<kWidth>) {
    if (c <= seen.last && c + kWidth > seen.first) {
      load<kWidth>(p + c, weight);
      load<kWidth>(dp + c, gradient);
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      gradient[i] = seen.has(c + i) ? weight[i] * (gradient[i] - sum) * scale : 0.0F;
    store<kWidth>(ds + c, gradient);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    zero_unseen_kernel(float* p, int64_t context, int64_t window) {
  const int64_t row = blockIdx.x;
  const Seen seen = seen_keys(row, context, window);
  float* values = p + row * context;
  for (int64_t c = first_column<kWidth>(0); c < context; c += kStep<kWidth>) {
    if (seen.has(c) && seen.has(c + kWidth - 1)) continue;
    alignas(4 * kWidth) float v[kWidth] = {};
    if (c <= seen.last && c + kWidth > seen.first) {
      load<kWidth>(values + c, v);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        if (!seen.has(c + i)) v[i] = 0.0F;
    }
    store<kWidth>(values + c, v);
  }
}

__global__ void matrix_pointers_kernel(HeadMatrices a, HeadMatrices b, HeadMatrices c,
                                       int64_t heads, int64_t count, const float** pointers) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const auto address = [=](const HeadMatrices& m) {
    return m.data + i / heads * m.batch_stride + i % heads / m.heads_each * m.head_stride;
  };
  pointers[i] = address(a);
  pointers[count + i] = address(b);
  pointers[2 * count + i] = address(c);
}

// Whether every row starts on a 16-byte boundary.
bool wide(const void* data, int64_t context) {
  return context % 4 == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
}

}  // namespace

cudaError_t kernel_code_status() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, zero_unseen_kernel<4>);
}

void causal_softmax(float* p, int64_t rows, int64_t context, int64_t window, cudaStream_t stream) {
  if (rows == 0) return;
  const auto kernel = wide(p, context) ? causal_softmax_kernel<4> : causal_softmax_kernel<1>;
  kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(p, context, window);
}

void causal_softmax_backward(const float* p, const float* dp, float scale, float* ds, int64_t rows,
                             int64_t context, int64_t window, int64_t block, cudaStream_t stream) {
  if (rows == 0) return;
  const bool four = wide(p, context) && wide(dp, context) && wide(ds, context) && block % 4 == 0;
  const auto kernel = four ? causal_softmax_backward_kernel<4> : causal_softmax_backward_kernel<1>;
  kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(p, dp, scale, ds, context, window,
                                                               block);
}

void zero_unseen(float* p, int64_t rows, int64_t context, int64_t window, cudaStream_t stream) {
  if (rows == 0) return;
  const auto kernel = wide(p, context) ? zero_unseen_kernel<4> : zero_unseen_kernel<1>;
  kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(p, context, window);
}

void matrix_pointers(const HeadMatrices& a, const HeadMatrices& b, const HeadMatrices& c,
                     int64_t batch, int64_t heads, const float** pointers, cudaStream_t stream) {
  const int64_t count = batch * heads;
  if (count == 0) return;
  const auto blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
  matrix_pointers_kernel<<<blocks, kThreads, 0, stream>>>(a, b, c, heads, count, pointers);
}

}  // namespace abq::compute::cuda
