// Functions that move or rotate elements: rotary positions and repetition.
#include "compute/cuda/map.cuh"
#include "compute/cuda/row_kernels.h"

namespace abq::compute::cuda {
namespace {

constexpr int kThreads = 256;

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>(divide_up(threads, kThreads));
}

// A thread turns pair j of every head of a row: the angle, in float64 because positions times
// frequencies lose float32's fraction, is computed once a row.
__global__ void __launch_bounds__(kThreads)
    rotate_pairs(const float* x, const float* frequencies, float* y, int64_t rows, int64_t cols,
                 int64_t half, int64_t context, bool inverse) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= rows * half) return;
  const int64_t row = i / half;
  const int64_t pair = i % half;
  const double position = static_cast<double>(row % context);
  double sine = 0.0;
  double cosine = 0.0;
  sincos(position * static_cast<double>(frequencies[pair]), &sine, &cosine);
  const float c = static_cast<float>(cosine);
  const float s = static_cast<float>(inverse ? -sine : sine);
  const int64_t last = (row + 1) * cols;
#pragma unroll 4
  for (int64_t low = row * cols + pair; low < last; low += 2 * half) {
    const float a = x[low];
    const float b = x[low + half];
    y[low] = a * c - b * s;
    y[low + half] = b * c + a * s;
  }
}

// Element o * period + r * inner + i of y is x[o * inner + i]; period = count * inner. Index is 32
// bits where that is enough: 64-bit divisions cost more than the memory they index.
template <class Index, bool kVector>
__global__ void __launch_bounds__(kThreads)
    repeat_inner(const float* x, float* y, Index size, Index inner, Index period) {
  constexpr Index kWidth = kVector ? 4 : 1;
  const Index thread = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (thread >= size / kWidth) return;
  const Index at = thread * kWidth;
  const Index from = at / period * inner + at % inner;
  if constexpr (kVector) {
    *reinterpret_cast<float4*>(y + at) = *reinterpret_cast<const float4*>(x + from);
  } else {
    y[at] = x[from];
  }
}

template <class Index, bool kVector>
void launch_repeat(const float* x, float* y, int64_t size, int64_t inner, int64_t count,
                   cudaStream_t stream) {
  repeat_inner<Index, kVector><<<blocks_for(kVector ? size / 4 : size), kThreads, 0, stream>>>(
      x, y, static_cast<Index>(size), static_cast<Index>(inner), static_cast<Index>(inner * count));
}

// dx[o * inner + i] = sum over r, ascending, of dy[o * period + r * inner + i].
__global__ void __launch_bounds__(kThreads)
    sum_repeats(const float* dy, float* dx, int64_t size, int64_t inner, int64_t count) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= size) return;
  const float* const first = dy + at / inner * inner * count + at % inner;
  float sum = 0.0f;
#pragma unroll 4
  for (int64_t r = 0; r < count; ++r)
    sum += first[r * inner];
  dx[at] = sum;
}

}  // namespace

void rope(const float* x, int64_t head_dim, int64_t context, const float* frequencies, bool inverse,
          float* y, int64_t rows, int64_t cols, cudaStream_t stream) {
  const int64_t half = head_dim / 2;
  if (rows == 0 || cols == 0) return;
  rotate_pairs<<<blocks_for(rows * half), kThreads, 0, stream>>>(x, frequencies, y, rows, cols,
                                                                 half, context, inverse);
}

void repeat(const float* x, float* y, int64_t outer, int64_t inner, int64_t count,
            cudaStream_t stream) {
  const int64_t size = outer * inner * count;
  if (size == 0) return;
  const bool vector = inner % 4 == 0 && all_aligned16(x, y);
  const bool narrow = size < int64_t{1} << 31;  // also the threads of the last block fit
  if (narrow && vector) return launch_repeat<uint32_t, true>(x, y, size, inner, count, stream);
  if (narrow) return launch_repeat<uint32_t, false>(x, y, size, inner, count, stream);
  if (vector) return launch_repeat<uint64_t, true>(x, y, size, inner, count, stream);
  launch_repeat<uint64_t, false>(x, y, size, inner, count, stream);
}

void repeat_backward(const float* dy, float* dx, int64_t outer, int64_t inner, int64_t count,
                     cudaStream_t stream) {
  const int64_t size = outer * inner;
  if (size == 0) return;
  sum_repeats<<<blocks_for(size), kThreads, 0, stream>>>(dy, dx, size, inner, count);
}

}  // namespace abq::compute::cuda
