// y = w * row_scale * column_scale + a b^T: channel scales and compensation vectors on a weight.
#include "compute/cuda/column_reduction.cuh"
#include "compute/cuda/row.cuh"
#include "compute/cuda/row_kernels.h"

namespace abq::compute::cuda {
namespace {

// A vector that may be absent. `v` and the condition are the same for all threads.
__device__ __forceinline__ float element_or(const float* v, int64_t i, float absent) {
  return v == nullptr ? absent : v[i];
}

struct AffineWeight {
  const float* w;
  const float* row_scale;
  const float* column_scale;
  const float* a;
  const float* b;
  float* y;
  int64_t cols;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Row<Shape> values(team, w + row * cols);
    const Row<Shape> scales(column_scale != nullptr ? team : team.first(0), column_scale);
    const Row<Shape> directions(b != nullptr ? team : team.first(0), b);
    const float scale = element_or(row_scale, row, 1.0f);
    const float outer = element_or(a, row, 0.0f);
    team.store(y + row * cols, [&](int slot, int column) {
      float v = values.at(slot, column) * scale;
      if (column_scale != nullptr) v *= scales.at(slot, column);
      if (b != nullptr) v += outer * directions.at(slot, column);
      return v;
    });
  }
};

// The gradients that belong to rows, and the weight's.
struct AffineWeightRows {
  const float* w;
  const float* row_scale;
  const float* column_scale;
  const float* b;
  const float* dy;
  float* dw;
  float* drow_scale;
  float* da;
  int64_t cols;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Row<Shape> gradients(team, dy + row * cols);
    if (drow_scale != nullptr || da != nullptr) {
      const Row<Shape> weights(drow_scale != nullptr ? team : team.first(0), w + row * cols);
      float sums[2] = {0.0f, 0.0f};
      team.each([&](int slot, int column) {
        const float d = gradients.at(slot, column);
        if (drow_scale != nullptr) {
          sums[0] += d * weights.at(slot, column) * element_or(column_scale, column, 1.0f);
        }
        if (da != nullptr) sums[1] += d * b[column];
      });
      team.reduce(sums, SumOf{});
      if (team.leads() && drow_scale != nullptr) drow_scale[row] = sums[0];
      if (team.leads() && da != nullptr) da[row] = sums[1];
    }
    if (dw == nullptr) return;
    const float scale = element_or(row_scale, row, 1.0f);
    team.store(dw + row * cols, [&](int slot, int column) {
      return gradients.at(slot, column) * scale * element_or(column_scale, column, 1.0f);
    });
  }
};

// The gradients that belong to columns: dcolumn_scale = sum dy w row_scale, db = sum dy a.
struct AffineWeightColumns {
  static constexpr int kCount = 2;
  const float* w;
  const float* row_scale;
  const float* a;
  const float* dy;
  int64_t cols;
  float* out[kCount];

  __device__ float start(int) const { return 0.0f; }
  __device__ float combine(int, float x, float y) const { return x + y; }
  __device__ void visit(int64_t row, int64_t column, float (&acc)[kCount]) const {
    const int64_t i = row * cols + column;
    const float d = dy[i];
    if (out[0] != nullptr) acc[0] += d * (w[i] * element_or(row_scale, row, 1.0f));
    if (out[1] != nullptr) acc[1] += d * a[row];
  }
};

}  // namespace

void affine_weight(const float* w, const float* row_scale, const float* column_scale,
                   const float* a, const float* b, float* y, int64_t rows, int64_t cols,
                   cudaStream_t stream) {
  for_rows(AffineWeight{w, row_scale, column_scale, a, b, y, cols}, rows, cols,
           all_aligned16(w, column_scale, b, y), stream);
}

int64_t affine_weight_backward_scratch(int64_t rows, int64_t cols) {
  return column_reduction_scratch(rows, cols, AffineWeightColumns::kCount);
}

void affine_weight_backward(const float* w, const float* row_scale, const float* column_scale,
                            const float* a, const float* b, const float* dy, float* dw,
                            float* drow_scale, float* dcolumn_scale, float* da, float* db,
                            float* scratch, int64_t rows, int64_t cols, cudaStream_t stream) {
  if (dw != nullptr || drow_scale != nullptr || da != nullptr) {
    for_rows(AffineWeightRows{w, row_scale, column_scale, b, dy, dw, drow_scale, da, cols}, rows,
             cols, all_aligned16(w, dy, dw), stream);
  }
  if (dcolumn_scale != nullptr || db != nullptr) {
    reduce_columns(AffineWeightColumns{w, row_scale, a, dy, cols, {dcolumn_scale, db}}, scratch,
                   rows, cols, stream);
  }
}

}  // namespace abq::compute::cuda
