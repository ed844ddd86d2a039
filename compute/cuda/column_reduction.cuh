// Reductions over the rows of a matrix, one result per column, in two stages: blocks of 32 columns
// reduce a range of rows each (enough ranges to fill the device also when there are few columns),
// then the ranges are combined in their order.
//
// An operation Op has
//   kCount                       results per column
//   start(k)                     the neutral element of result k
//   combine(k, a, b)
//   visit(row, column, acc)      combines an element into acc[kCount]
//   out[kCount]                  where the results go, [cols] each; null: nowhere
#pragma once

#include <algorithm>
#include <cstdint>

#include "compute/cuda/map.cuh"

namespace abq::compute::cuda {

constexpr int kColumnLanes = 32;
constexpr int kRowLanes = 8;

// Into how many ranges the rows are cut: for about a thousand blocks (eight for each
// multiprocessor of the largest device, whatever the device, so that sums do not depend on it) of
// at least four rows a thread.
inline int64_t row_ranges(int64_t rows, int64_t cols) {
  const int64_t wanted = divide_up(1056, divide_up(cols, kColumnLanes));
  const int64_t useful = divide_up(rows, 4 * kRowLanes);
  return std::max<int64_t>(1, std::min({wanted, useful, int64_t{64}}));
}

// Floats of scratch for reduce_columns.
inline int64_t column_reduction_scratch(int64_t rows, int64_t cols, int64_t count) {
  return cols == 0 ? 0 : row_ranges(rows, cols) * cols * count;
}

// Combines acc over the row lanes of the block; the result is right in row lane 0.
template <class Op>
__device__ void reduce_row_lanes(const Op& op, float (&acc)[Op::kCount]) {
  __shared__ float parts[Op::kCount][kRowLanes][kColumnLanes];
#pragma unroll
  for (int k = 0; k < Op::kCount; ++k)
    parts[k][threadIdx.y][threadIdx.x] = acc[k];
  __syncthreads();
  if (threadIdx.y != 0) return;
#pragma unroll
  for (int k = 0; k < Op::kCount; ++k) {
#pragma unroll
    for (int lane = 1; lane < kRowLanes; ++lane)
      acc[k] = op.combine(k, acc[k], parts[k][lane][threadIdx.x]);
  }
}

// partial[(range * kCount + k) * cols + column]
template <class Op>
__global__ void __launch_bounds__(kColumnLanes* kRowLanes)
    reduce_row_range(Op op, float* partial, int64_t rows, int64_t cols, int64_t range_rows) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumnLanes + threadIdx.x;
  const int64_t first = blockIdx.y * range_rows;
  const int64_t last = first + range_rows < rows ? first + range_rows : rows;
  float acc[Op::kCount];
#pragma unroll
  for (int k = 0; k < Op::kCount; ++k)
    acc[k] = op.start(k);
  if (column < cols) {
#pragma unroll 4
    for (int64_t row = first + threadIdx.y; row < last; row += kRowLanes)
      op.visit(row, column, acc);
  }
  reduce_row_lanes(op, acc);
  if (threadIdx.y != 0 || column >= cols) return;
#pragma unroll
  for (int k = 0; k < Op::kCount; ++k)
    partial[(blockIdx.y * Op::kCount + k) * cols + column] = acc[k];
}

template <class Op>
__global__ void __launch_bounds__(kColumnLanes* kRowLanes)
    combine_row_ranges(Op op, const float* partial, int64_t ranges, int64_t cols) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumnLanes + threadIdx.x;
  float acc[Op::kCount];
#pragma unroll
  for (int k = 0; k < Op::kCount; ++k)
    acc[k] = op.start(k);
  if (column < cols) {
    for (int64_t range = threadIdx.y; range < ranges; range += kRowLanes) {
#pragma unroll
      for (int k = 0; k < Op::kCount; ++k)
        acc[k] = op.combine(k, acc[k], partial[(range * Op::kCount + k) * cols + column]);
    }
  }
  reduce_row_lanes(op, acc);
  if (threadIdx.y != 0 || column >= cols) return;
#pragma unroll
  for (int k = 0; k < Op::kCount; ++k)
    if (op.out[k] != nullptr) op.out[k][column] = acc[k];
}

template <class Op>
void reduce_columns(const Op& op, float* scratch, int64_t rows, int64_t cols, cudaStream_t stream) {
  if (cols == 0) return;
  const int64_t ranges = row_ranges(rows, cols);
  const unsigned column_blocks = static_cast<unsigned>(divide_up(cols, kColumnLanes));
  const dim3 block(kColumnLanes, kRowLanes);
  reduce_row_range<<<dim3(column_blocks, static_cast<unsigned>(ranges)), block, 0, stream>>>(
      op, scratch, rows, cols, divide_up(rows, ranges));
  combine_row_ranges<<<column_blocks, block, 0, stream>>>(op, scratch, ranges, cols);
}

}  // namespace abq::compute::cuda
