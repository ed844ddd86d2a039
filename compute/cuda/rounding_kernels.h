// Launchers of the kernels of rounding with error compensation (compute/compensated_rounding.h).
// Float64 matrices [K, K] and [N, K], row-major without gaps; pointers are device memory. Launchers
// only enqueue work on `stream`; errors are the caller's to ask for. Deterministic: no atomics.
//
// The header stands alone: nvcc includes it as well as the host compiler.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace abq::compute::cuda {

constexpr int kRoundingBlock = 128;  // columns, compute::kRoundingColumns

// compute::WeightQuantizer and where grids come from, in plain words.
struct GridRule {
  enum Kind { kAsymmetric, kSymmetric, kBinary };
  Kind kind = kAsymmetric;
  float max_code = 15.0f;
  float steps = 15.0f;   // symmetric only
  float zero = 8.0f;     // symmetric only
  bool given = false;    // grids are in the table as they are
  bool searched = true;  // else the table has clip factors
};

// [N, G], G = 1 without groups. Zero points are over 2 for binary weights.
struct GridTable {
  float* scales = nullptr;
  float* zeros = nullptr;
  float* clip_low = nullptr;
  float* clip_high = nullptr;
};

// `cols` columns of all rows from position `begin` on.
struct RoundBlock {
  int64_t k = 0;
  int64_t begin = 0;
  int cols = 0;
  int group = 0;                  // 0: grids of whole rows, in the table
  const int* columns = nullptr;   // [K]: position -> column
  const double* upper = nullptr;  // U [K, K] by position
  const double* added = nullptr;  // [K] by position: to H's diagonal
  const float* w = nullptr;       // [N, K] by column
  const double* rest = nullptr;   // [N, K] by position: compensated so far
  double* errors = nullptr;       // [N, kRoundingBlock]: over U's diagonal
  uint8_t* codes = nullptr;       // [N, K] by column
  double* losses = nullptr;       // [N]: added to
  GridTable grids;
};

// y = x for n elements.
void to_double(const float* x, double* y, int64_t n, cudaStream_t stream);
void zero_doubles(double* x, int64_t n, cudaStream_t stream);
// y[k] = factor times the diagonal of sums[k, k].
void scaled_diagonal(const double* sums, double factor, double* y, int64_t k, cudaStream_t stream);
// a[k, k], row r and column c being positions k - 1 - r and k - 1 - c: factor * sums (of which the
// half with column >= row is read), on the diagonal diagonal[position] + added.
void damped_backwards(const double* sums, double factor, const int* columns, const double* diagonal,
                      double added, double* a, int64_t k, cudaStream_t stream);
void identity_matrix(double* a, int64_t k, cudaStream_t stream);
// Element i becomes element n - 1 - i, in place.
void reverse_doubles(double* x, int64_t n, cudaStream_t stream);
// y[n, position] = w[n, column].
void rows_by_position(const float* w, const int* columns, double* y, int64_t n, int64_t k,
                      cudaStream_t stream);
// The grids of whole rows of w.
void choose_row_grids(const float* w, const GridRule& rule, GridTable grids, int64_t n, int64_t k,
                      cudaStream_t stream);
void round_columns(const GridRule& rule, const RoundBlock& block, int64_t n, cudaStream_t stream);
// errors[n, k] = w' - w to nearest, on grids of w's own ranges times the table's clip factors (or
// on given grids). group divides k.
void nearest_errors(const float* w, const GridRule& rule, GridTable grids, double* errors,
                    int64_t n, int64_t k, int64_t group, cudaStream_t stream);
// y[n] = sum of a * b over each row.
void row_products(const double* a, const double* b, double* y, int64_t n, int64_t k,
                  cudaStream_t stream);

}  // namespace abq::compute::cuda
