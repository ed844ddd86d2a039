// Weights with learned codes on learned scales: a group (or a whole row) of offsets is a row of
// these kernels.
#include "compute/cuda/quantizer_math.cuh"
#include "compute/cuda/row.cuh"
#include "compute/cuda/row_kernels.h"

namespace abq::compute::cuda {
namespace {

// The numbers that the offsets of a group round to.
struct CodeRule {
  const float* zeros;
  float max_code;

  __device__ CodeNumbers numbers(int64_t group) const {
    return code_numbers(zeros[group], max_code);
  }
};

struct SignRule {
  __device__ SignNumbers numbers(int64_t) const { return {}; }
};

template <class Rule>
struct RoundWeight {
  Rule rule;
  const float* offsets;
  const float* scales;
  float* y;
  int64_t length;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t group) const {
    const Row<Shape> values(team, offsets + group * length);
    const auto numbers = rule.numbers(group);
    const float scale = scales[group];
    team.store(y + group * length, [&](int slot, int column) {
      return rounded_weight_of(values.at(slot, column), scale, numbers);
    });
  }
};

template <class Rule>
struct RoundWeightBackward {
  Rule rule;
  const float* offsets;
  const float* scales;
  const float* dy;
  float* doffsets;
  float* dscales;
  int64_t length;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t group) const {
    const Row<Shape> values(team, offsets + group * length);
    const Row<Shape> gradients(team, dy + group * length);
    const auto numbers = rule.numbers(group);
    const float scale = scales[group];
    const auto gradient = [&](int slot, int column) {
      return rounded_weight_gradient(values.at(slot, column), gradients.at(slot, column), scale,
                                     numbers);
    };
    float dscale = 0.0f;
    team.each([&](int slot, int column) { dscale += gradient(slot, column).scale; });
    dscale = team.sum(dscale);
    if (team.leads()) dscales[group] = dscale;
    if (doffsets == nullptr) return;
    team.store(doffsets + group * length,
               [&](int slot, int column) { return gradient(slot, column).x; });
  }
};

template <class Use>
void with_rule(const float* zeros, const WeightGrid& grid, const Use& use) {
  if (grid.kind == WeightGrid::Kind::kBinary) return use(SignRule{});
  use(CodeRule{zeros, static_cast<float>(grid.levels - 1)});
}

}  // namespace

void rounded_weight(const float* offsets, const float* scales, const float* zeros,
                    const WeightGrid& grid, float* y, int64_t rows, int64_t cols,
                    cudaStream_t stream) {
  const int64_t length = grid.group_size;
  with_rule(zeros, grid, [&](auto rule) {
    for_rows(RoundWeight<decltype(rule)>{rule, offsets, scales, y, length}, rows * (cols / length),
             length, all_aligned16(offsets, y), stream);
  });
}

void rounded_weight_backward(const float* offsets, const float* scales, const float* zeros,
                             const WeightGrid& grid, const float* dy, float* doffsets,
                             float* dscales, int64_t rows, int64_t cols, cudaStream_t stream) {
  const int64_t length = grid.group_size;
  with_rule(zeros, grid, [&](auto rule) {
    for_rows(
        RoundWeightBackward<decltype(rule)>{rule, offsets, scales, dy, doffsets, dscales, length},
        rows * (cols / length), length, all_aligned16(offsets, dy, doffsets), stream);
  });
}

}  // namespace abq::compute::cuda
