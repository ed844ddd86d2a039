// Losses: a partial result per row (or per block of elements), then their mean by one block.
#include "compute/cuda/element_math.cuh"
#include "compute/cuda/loss_math.cuh"
#include "compute/cuda/row.cuh"
#include "compute/cuda/row_kernels.h"

namespace abq::compute::cuda {
namespace {

constexpr int kMeanThreads = 1024;

// loss = sum(partial) * factor, in float64.
__global__ void __launch_bounds__(kMeanThreads)
    combine_partials(const float* partial, int64_t count, double factor, float* loss) {
  const Team<RowShape<kMeanThreads, 0>> team{static_cast<int>(threadIdx.x), 1, false};
  double sum[1] = {0.0};
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < count; i += kMeanThreads)
    sum[0] += static_cast<double>(partial[i]);
  team.reduce(sum, SumOf{});
  if (threadIdx.x == 0) *loss = static_cast<float>(sum[0] * factor);
}

void mean_of(const float* partial, int64_t count, int64_t elements, float* loss,
             cudaStream_t stream) {
  combine_partials<<<1, kMeanThreads, 0, stream>>>(partial, count,
                                                   1.0 / static_cast<double>(elements), loss);
}

// ---- Cosine

template <class Shape>
__device__ Cosine cosine_of_rows(const Team<Shape>& team, const Row<Shape>& y,
                                 const Row<Shape>& target) {
  float sums[3] = {0.0f, 0.0f, 0.0f};
  team.each([&](int slot, int column) {
    const float a = y.at(slot, column);
    const float b = target.at(slot, column);
    sums[0] += a * b;
    sums[1] += a * a;
    sums[2] += b * b;
  });
  team.reduce(sums, SumOf{});
  return cosine_of(sums[0], sums[1], sums[2]);
}

struct RowCosine {
  const float* y;
  const float* target;
  float* partial;
  int64_t cols;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Row<Shape> values(team, y + row * cols);
    const Row<Shape> targets(team, target + row * cols);
    const Cosine cosine = cosine_of_rows(team, values, targets);
    if (team.leads()) partial[row] = cosine.value;
  }
};

struct RowCosineBackward {
  const float* y;
  const float* target;
  const float* dloss;
  float* dy;
  int64_t cols;
  float factor;  // 1 / rows

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Row<Shape> values(team, y + row * cols);
    const Row<Shape> targets(team, target + row * cols);
    const Cosine cosine = cosine_of_rows(team, values, targets);
    const float d = *dloss * factor;
    team.store(dy + row * cols, [&](int slot, int column) {
      return d *
             (targets.at(slot, column) * cosine.of_target - values.at(slot, column) * cosine.of_y);
    });
  }
};

// ---- Squared error

constexpr int kErrorThreads = 256;
constexpr int64_t kMostErrorBlocks = 1024;

int64_t error_blocks(int64_t n) {
  return n < kMostErrorBlocks * 4 * kErrorThreads ? divide_up(n, 4 * kErrorThreads)
                                                  : kMostErrorBlocks;
}

// A block's sum of (y - target)^2 over its share of the elements, four neighbours at a time.
__global__ void __launch_bounds__(kErrorThreads)
    sum_squared_error(const float* y, const float* target, float* partial, int64_t n, bool vector) {
  const Team<RowShape<kErrorThreads, 0>> team{static_cast<int>(threadIdx.x), 1, false};
  const int64_t step = static_cast<int64_t>(gridDim.x) * kErrorThreads * 4;
  float sum = 0.0f;
#pragma unroll 2
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * kErrorThreads + threadIdx.x) * 4; i < n;
       i += step) {
    float a[4] = {};
    float b[4] = {};
    if (vector && i + 4 <= n) {
      load4(a, y + i);
      load4(b, target + i);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (i + k < n) a[k] = y[i + k];
        if (i + k < n) b[k] = target[i + k];
      }
    }
#pragma unroll
    for (int k = 0; k < 4; ++k)
      sum += (a[k] - b[k]) * (a[k] - b[k]);
  }
  sum = team.sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// ---- Divergence of attention weights

struct RowDivergence {
  const float* p;
  const float* target;
  float* partial;
  int64_t context;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Team<Shape> seen = team.first(static_cast<int>(row % context) + 1);
    const Row<Shape> values(seen, p + row * context);
    const Row<Shape> targets(seen, target + row * context);
    float sum = 0.0f;
    seen.each([&](int slot, int column) {
      sum += divergence_of(values.at(slot, column), targets.at(slot, column));
    });
    sum = team.sum(sum);
    if (team.leads()) partial[row] = sum;
  }
};

struct RowDivergenceBackward {
  const float* p;
  const float* target;
  const float* dloss;
  float* dp;
  int64_t context;
  float factor;  // 1 / rows

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Team<Shape> seen = team.first(static_cast<int>(row % context) + 1);
    const Row<Shape> values(seen, p + row * context);
    const Row<Shape> targets(seen, target + row * context);
    const float d = *dloss * factor;
    team.store(dp + row * context, [&](int slot, int column) {
      if (column >= seen.cols) return 0.0f;
      return d * divergence_gradient(values.at(slot, column), targets.at(slot, column));
    });
  }
};

// ---- Divergence of logits

template <class Shape>
__device__ LogitRow logit_row_of(const Team<Shape>& team, const Row<Shape>& y,
                                 const Row<Shape>& target) {
  ExponentialSum of_y;
  ExponentialSum of_target;
  team.each([&](int slot, int column) {
    add_exponential(of_y, y.at(slot, column));
    add_exponential(of_target, target.at(slot, column));
  });
  float highs[2] = {of_y.high, of_target.high};
  team.reduce(highs, LargerOf{});
  float sums[2] = {sum_below(highs[0], of_y), sum_below(highs[1], of_target)};
  team.reduce(sums, SumOf{});
  return logit_row(highs[0], sums[0], highs[1], sums[1]);
}

struct RowLogitDivergence {
  const float* y;
  const float* target;
  float* partial;
  int64_t cols;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Row<Shape> values(team, y + row * cols);
    const Row<Shape> targets(team, target + row * cols);
    const LogitRow logits = logit_row_of(team, values, targets);
    float sum = 0.0f;
    team.each([&](int slot, int column) {
      sum += logit_column(logits, values.at(slot, column), targets.at(slot, column)).divergence();
    });
    sum = team.sum(sum);
    if (team.leads()) partial[row] = sum;
  }
};

struct RowLogitDivergenceBackward {
  const float* y;
  const float* target;
  const float* dloss;
  float* dy;
  int64_t cols;
  float factor;  // 1 / rows

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Row<Shape> values(team, y + row * cols);
    const Row<Shape> targets(team, target + row * cols);
    const LogitRow logits = logit_row_of(team, values, targets);
    const float d = *dloss * factor;
    team.store(dy + row * cols, [&](int slot, int column) {
      return d * logit_column(logits, values.at(slot, column), targets.at(slot, column)).gradient();
    });
  }
};

}  // namespace

int64_t mean_cosine_scratch(int64_t rows, int64_t) {
  return rows;
}

void mean_cosine(const float* y, const float* target, float* loss, float* scratch, int64_t rows,
                 int64_t cols, cudaStream_t stream) {
  for_rows(RowCosine{y, target, scratch, cols}, rows, cols, all_aligned16(y, target), stream);
  mean_of(scratch, rows, rows, loss, stream);
}

void mean_cosine_backward(const float* y, const float* target, const float* dloss, float* dy,
                          int64_t rows, int64_t cols, cudaStream_t stream) {
  for_rows(RowCosineBackward{y, target, dloss, dy, cols, 1.0f / static_cast<float>(rows)}, rows,
           cols, all_aligned16(y, target, dy), stream);
}

int64_t mean_squared_error_scratch(int64_t rows, int64_t cols) {
  return error_blocks(rows * cols);
}

void mean_squared_error(const float* y, const float* target, float* loss, float* scratch,
                        int64_t rows, int64_t cols, cudaStream_t stream) {
  const int64_t n = rows * cols;
  const int64_t blocks = error_blocks(n);
  sum_squared_error<<<static_cast<unsigned>(blocks), kErrorThreads, 0, stream>>>(
      y, target, scratch, n, all_aligned16(y, target));
  mean_of(scratch, blocks, n, loss, stream);
}

void mean_squared_error_backward(const float* y, const float* target, const float* dloss, float* dy,
                                 int64_t rows, int64_t cols, cudaStream_t stream) {
  const int64_t n = rows * cols;
  const float factor = static_cast<float>(2.0 / static_cast<double>(n));
  map(Operands<2, 1>{{y, target}, {dy}}, n, SquaredErrorBackward{dloss, factor}, stream);
}

int64_t symmetric_divergence_scratch(int64_t rows, int64_t) {
  return rows;
}

void symmetric_divergence(const float* p, const float* target, float* loss, float* scratch,
                          int64_t rows, int64_t cols, cudaStream_t stream) {
  for_rows(RowDivergence{p, target, scratch, cols}, rows, cols, all_aligned16(p, target), stream);
  mean_of(scratch, rows, rows, loss, stream);
}

void symmetric_divergence_backward(const float* p, const float* target, const float* dloss,
                                   float* dp, int64_t rows, int64_t cols, cudaStream_t stream) {
  for_rows(RowDivergenceBackward{p, target, dloss, dp, cols, 1.0f / static_cast<float>(rows)}, rows,
           cols, all_aligned16(p, target, dp), stream);
}

int64_t logit_divergence_scratch(int64_t rows, int64_t) {
  return rows;
}

void logit_divergence(const float* y, const float* target, float* loss, float* scratch,
                      int64_t rows, int64_t cols, cudaStream_t stream) {
  for_rows(RowLogitDivergence{y, target, scratch, cols}, rows, cols, all_aligned16(y, target),
           stream);
  mean_of(scratch, rows, rows, loss, stream);
}

void logit_divergence_backward(const float* y, const float* target, const float* dloss, float* dy,
                               int64_t rows, int64_t cols, cudaStream_t stream) {
  for_rows(RowLogitDivergenceBackward{y, target, dloss, dy, cols, 1.0f / static_cast<float>(rows)},
           rows, cols, all_aligned16(y, target, dy), stream);
}

}  // namespace abq::compute::cuda
