// Fake quantization of tokens: a segment of a row is a row of these kernels.
#include "compute/cuda/row_kernels.h"
#include "compute/cuda/straight_through.cuh"

namespace abq::compute::cuda {
namespace {

struct QuantizeTokens {
  const float* x;
  float* y;
  int64_t segment;
  float max_code;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Row<Shape> values(team, x + row * segment);
    const Range range = range_of(team, values);
    const CodeGrid grid = asymmetric_grid(range.low, range.high, max_code);
    team.store(y + row * segment,
               [&](int slot, int column) { return fake_quantized(values.at(slot, column), grid); });
  }
};

struct QuantizeTokensBackward {
  const float* x;
  const float* dy;
  float* dx;
  int64_t segment;
  float max_code;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t row) const {
    const Row<Shape> values(team, x + row * segment);
    Row<Shape> gradients(team, dy + row * segment);
    const Range range = range_of(team, values);
    const CodeGrid grid = asymmetric_grid(range.low, range.high, max_code);
    const ExtremeColumns extremes = extreme_columns(team, values, range);
    const float dscale = team.sum(pass_elements(team, values, gradients, grid));
    const RangeGradient bounds = asymmetric_range_gradient(dscale, grid);
    team.store(dx + row * segment, [&](int slot, int column) {
      float d = passed_element(values, gradients, slot, column, grid);
      if (column == extremes.low) d += bounds.low;
      if (column == extremes.high) d += bounds.high;
      return d;
    });
  }
};

float max_code_of(int bits) {
  return static_cast<float>((1 << bits) - 1);
}

}  // namespace

void fake_quantize_tokens(const float* x, int bits, int64_t segment, float* y, int64_t rows,
                          int64_t cols, cudaStream_t stream) {
  if (rows == 0 || cols == 0) return;
  for_rows(QuantizeTokens{x, y, segment, max_code_of(bits)}, rows * (cols / segment), segment,
           all_aligned16(x, y), stream);
}

void fake_quantize_tokens_backward(const float* x, int bits, int64_t segment, const float* dy,
                                   float* dx, int64_t rows, int64_t cols, cudaStream_t stream) {
  if (rows == 0 || cols == 0) return;
  for_rows(QuantizeTokensBackward{x, dy, dx, segment, max_code_of(bits)}, rows * (cols / segment),
           segment, all_aligned16(x, dy, dx), stream);
}

}  // namespace abq::compute::cuda
