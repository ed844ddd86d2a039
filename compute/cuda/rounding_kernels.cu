#include "compute/cuda/rounding_kernels.h"

#include "compute/cuda/map.cuh"
#include "compute/cuda/rounding_math.cuh"

namespace abq::compute::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowWarps = 4;  // rows of a thread block

struct DeviceWarp {
  __device__ int lane() const { return static_cast<int>(threadIdx.x) % kLanes; }
  // `value` of lane `source`, and of the lane whose number differs in the bits of `mask`.
  template <class T>
  __device__ T from(T value, int source) const {
    return __shfl_sync(0xffffffffu, value, source);
  }
  template <class T>
  __device__ T exchange(T value, int mask) const {
    return __shfl_xor_sync(0xffffffffu, value, mask);
  }
};

// f(i) for i < n.
template <class F>
__global__ void __launch_bounds__(kThreads) each_kernel(int64_t n, F f) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n; i += step)
    f(i);
}

template <class F>
void for_each(int64_t n, const F& f, cudaStream_t stream) {
  constexpr int64_t kMostBlocks = 65536;
  if (n == 0) return;
  const int64_t blocks = divide_up(n, int64_t{kThreads});
  each_kernel<<<static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks), kThreads, 0,
                stream>>>(n, f);
}

// f(warp, row) for every row, a warp each; whole warps leave together.
template <class F>
__global__ void __launch_bounds__(kRowWarps* kLanes) warp_rows_kernel(int64_t rows, F f) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / kLanes;
  if (row < rows) f(DeviceWarp{}, row);
}

template <class F>
void for_warp_rows(int64_t rows, const F& f, cudaStream_t stream) {
  if (rows == 0) return;
  warp_rows_kernel<<<static_cast<unsigned>(divide_up(rows, int64_t{kRowWarps})), kRowWarps * kLanes,
                     0, stream>>>(rows, f);
}

struct ToDouble {
  const float* x;
  double* y;
  __device__ void operator()(int64_t i) const { y[i] = static_cast<double>(x[i]); }
};

struct ZeroDoubles {
  double* x;
  __device__ void operator()(int64_t i) const { x[i] = 0.0; }
};

struct ScaledDiagonal {
  const double* sums;
  double factor;
  double* y;
  int64_t k;
  __device__ void operator()(int64_t i) const { y[i] = factor * sums[i * k + i]; }
};

struct DampedBackwards {
  const double* sums;
  double factor;
  const int* columns;
  const double* diagonal;
  double added;
  double* a;
  int64_t k;

  __device__ void operator()(int64_t i) const {
    const int64_t p = k - 1 - i / k;
    const int64_t q = k - 1 - i % k;
    const int64_t row = columns[p] < columns[q] ? columns[p] : columns[q];
    const int64_t column = columns[p] < columns[q] ? columns[q] : columns[p];
    a[i] = p == q ? diagonal[p] + added : factor * sums[row * k + column];
  }
};

struct IdentityMatrix {
  double* a;
  int64_t k;
  __device__ void operator()(int64_t i) const { a[i] = i / k == i % k ? 1.0 : 0.0; }
};

struct ReverseDoubles {
  double* x;
  int64_t n;
  __device__ void operator()(int64_t i) const {
    const double low = x[i];
    x[i] = x[n - 1 - i];
    x[n - 1 - i] = low;
  }
};

struct RowsByPosition {
  const float* w;
  const int* columns;
  double* y;
  int64_t k;
  __device__ void operator()(int64_t i) const {
    y[i] = static_cast<double>(w[i / k * k + columns[i % k]]);
  }
};

struct ChooseRowGrid {
  const float* w;
  GridRule rule;
  GridTable grids;
  int64_t k;

  __device__ void operator()(const DeviceWarp& warp, int64_t row) {
    const ChosenGrid chosen = choose_grid(warp, rule, RowValues{w + row * k, k, warp.lane()}, k,
                                          grids.clip_low[row], grids.clip_high[row]);
    if (warp.lane() == 0) store_grid(rule, chosen, grids, row);
  }
};

struct RoundColumns {
  GridRule rule;
  RoundBlock block;
  __device__ void operator()(const DeviceWarp& warp, int64_t row) {
    round_block(warp, rule, block, row);
  }
};

// A row here is a group.
struct NearestErrors {
  const float* w;
  GridRule rule;
  GridTable grids;
  double* errors;
  int64_t group;

  __device__ void operator()(const DeviceWarp& warp, int64_t index) {
    const float* const values = w + index * group;
    const CodeGrid grid = rule.given
                              ? stored_grid(rule, grids, index)
                              : choose_grid(warp, rule, RowValues{values, group, warp.lane()},
                                            group, grids.clip_low[index], grids.clip_high[index])
                                    .grid;
    for (int64_t i = warp.lane(); i < group; i += kLanes) {
      const float rounded = value_of(grid, code_for(rule, grid, values[i]));
      errors[index * group + i] = static_cast<double>(rounded) - static_cast<double>(values[i]);
    }
  }
};

struct RowProducts {
  const double* a;
  const double* b;
  double* y;
  int64_t k;

  __device__ void operator()(const DeviceWarp& warp, int64_t row) {
    double sum = 0;
    for (int64_t i = warp.lane(); i < k; i += kLanes)
      sum += a[row * k + i] * b[row * k + i];
    sum = warp_sum(warp, sum);
    if (warp.lane() == 0) y[row] = sum;
  }
};

}  // namespace

void to_double(const float* x, double* y, int64_t n, cudaStream_t stream) {
  for_each(n, ToDouble{x, y}, stream);
}

void zero_doubles(double* x, int64_t n, cudaStream_t stream) {
  for_each(n, ZeroDoubles{x}, stream);
}

void scaled_diagonal(const double* sums, double factor, double* y, int64_t k, cudaStream_t stream) {
  for_each(k, ScaledDiagonal{sums, factor, y, k}, stream);
}

void damped_backwards(const double* sums, double factor, const int* columns, const double* diagonal,
                      double added, double* a, int64_t k, cudaStream_t stream) {
  for_each(k * k, DampedBackwards{sums, factor, columns, diagonal, added, a, k}, stream);
}

void identity_matrix(double* a, int64_t k, cudaStream_t stream) {
  for_each(k * k, IdentityMatrix{a, k}, stream);
}

void reverse_doubles(double* x, int64_t n, cudaStream_t stream) {
  for_each(n / 2, ReverseDoubles{x, n}, stream);
}

void rows_by_position(const float* w, const int* columns, double* y, int64_t n, int64_t k,
                      cudaStream_t stream) {
  for_each(n * k, RowsByPosition{w, columns, y, k}, stream);
}

void choose_row_grids(const float* w, const GridRule& rule, GridTable grids, int64_t n, int64_t k,
                      cudaStream_t stream) {
  for_warp_rows(n, ChooseRowGrid{w, rule, grids, k}, stream);
}

void round_columns(const GridRule& rule, const RoundBlock& block, int64_t n, cudaStream_t stream) {
  for_warp_rows(n, RoundColumns{rule, block}, stream);
}

void nearest_errors(const float* w, const GridRule& rule, GridTable grids, double* errors,
                    int64_t n, int64_t k, int64_t group, cudaStream_t stream) {
  GridRule chosen = rule;
  chosen.searched = false;
  for_warp_rows(n * (k / group), NearestErrors{w, chosen, grids, errors, group}, stream);
}

void row_products(const double* a, const double* b, double* y, int64_t n, int64_t k,
                  cudaStream_t stream) {
  for_warp_rows(n, RowProducts{a, b, y, k}, stream);
}

}  // namespace abq::compute::cuda
