// RMS norm, and statistics of columns.
#include "compute/cuda/column_reduction.cuh"
#include "compute/cuda/row.cuh"
#include "compute/cuda/row_kernels.h"

namespace abq::compute::cuda {
namespace {

// 1 / sqrt(mean(x^2) + eps), from the sum of squares.
__device__ float inverse_rms(float squares, int64_t cols, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(cols) + eps);
}

struct RmsNorm {
  const float* x;
  const float* weight;
  float* y;
  int64_t cols;
  float eps;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Row<Shape> values(team, x + row * cols);
    const Row<Shape> weights(team, weight);
    float squares = 0.0f;
    team.each([&](int slot, int column) {
      const float v = values.at(slot, column);
      squares += v * v;
    });
    const float inverse = inverse_rms(team.sum(squares), cols, eps);
    team.store(y + row * cols, [&](int slot, int column) {
      return values.at(slot, column) * inverse * weights.at(slot, column);
    });
  }
};

// With r = inverse_rms and g = dy * weight: dx = r (g - x r^2 mean(g x)). Keeps r for the weight's
// gradient.
struct RmsNormBackward {
  const float* x;
  const float* weight;
  const float* dy;
  float* dx;
  float* inverses;
  int64_t cols;
  float eps;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Row<Shape> values(team, x + row * cols);
    const Row<Shape> weights(team, weight);
    const Row<Shape> gradients(team, dy + row * cols);
    float sums[2] = {0.0f, 0.0f};  // of x^2, of g x
    team.each([&](int slot, int column) {
      const float v = values.at(slot, column);
      sums[0] += v * v;
      sums[1] += gradients.at(slot, column) * weights.at(slot, column) * v;
    });
    team.reduce(sums, SumOf{});
    const float inverse = inverse_rms(sums[0], cols, eps);
    const float along = inverse * inverse * (sums[1] / static_cast<float>(cols));
    team.store(dx + row * cols, [&](int slot, int column) {
      const float g = gradients.at(slot, column) * weights.at(slot, column);
      return inverse * (g - values.at(slot, column) * along);
    });
    if (team.leads()) inverses[row] = inverse;
  }
};

// dweight = sum over rows of dy x / rms.
struct RmsNormWeightGradient {
  static constexpr int kCount = 1;
  const float* x;
  const float* dy;
  const float* inverses;
  int64_t cols;
  float* out[kCount];

  __device__ float start(int) const { return 0.0f; }
  __device__ float combine(int, float a, float b) const { return a + b; }
  __device__ void visit(int64_t row, int64_t column, float (&acc)[kCount]) const {
    const int64_t i = row * cols + column;
    acc[0] += dy[i] * (x[i] * inverses[row]);
  }
};

// NaN if one of the two is.
__device__ float lower_of(float a, float b) {
  return b < a || b != b ? b : a;
}
__device__ float higher_of(float a, float b) {
  return b > a || b != b ? b : a;
}

struct ColumnStatistics {
  static constexpr int kCount = 3;
  const float* x;
  int64_t cols;
  float* out[kCount];

  __device__ float start(int k) const { return k == 0 ? INFINITY : k == 1 ? -INFINITY : 0.0f; }
  __device__ float combine(int k, float a, float b) const {
    return k == 0 ? lower_of(a, b) : k == 1 ? higher_of(a, b) : a + b;
  }
  __device__ void visit(int64_t row, int64_t column, float (&acc)[kCount]) const {
    const float v = x[row * cols + column];
    acc[0] = lower_of(acc[0], v);
    acc[1] = higher_of(acc[1], v);
    acc[2] += v * v;
  }
};

}  // namespace

void rms_norm(const float* x, const float* weight, float eps, float* y, int64_t rows, int64_t cols,
              cudaStream_t stream) {
  for_rows(RmsNorm{x, weight, y, cols, eps}, rows, cols, all_aligned16(x, weight, y), stream);
}

int64_t rms_norm_backward_scratch(int64_t rows, int64_t cols) {
  return rows + column_reduction_scratch(rows, cols, RmsNormWeightGradient::kCount);
}

void rms_norm_backward(const float* x, const float* weight, float eps, const float* dy, float* dx,
                       float* dweight, float* scratch, int64_t rows, int64_t cols,
                       cudaStream_t stream) {
  float* const inverses = scratch;
  for_rows(RmsNormBackward{x, weight, dy, dx, inverses, cols, eps}, rows, cols,
           all_aligned16(x, weight, dy, dx), stream);
  reduce_columns(RmsNormWeightGradient{x, dy, inverses, cols, {dweight}}, scratch + rows, rows,
                 cols, stream);
}

int64_t column_statistics_scratch(int64_t rows, int64_t cols) {
  return column_reduction_scratch(rows, cols, ColumnStatistics::kCount);
}

void column_statistics(const float* x, float* y, float* scratch, int64_t rows, int64_t cols,
                       cudaStream_t stream) {
  reduce_columns(ColumnStatistics{x, cols, {y, y + cols, y + 2 * cols}}, scratch, rows, cols,
                 stream);
}

}  // namespace abq::compute::cuda
