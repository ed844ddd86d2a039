// What the quantizers of a row share: its range (the extremes with zero included), where the
// extremes are, and the straight-through gradients of its elements.
#pragma once

#include "compute/cuda/quantizer_math.cuh"
#include "compute/cuda/row.cuh"

namespace abq::compute::cuda {

struct Range {
  float low;   // <= 0
  float high;  // >= 0
};

// NaN does not move the range.
template <class Shape>
__device__ Range range_of(const Team<Shape>& team, const Row<Shape>& x) {
  float bounds[2] = {0.0f, 0.0f};  // high, -low
  team.each([&](int slot, int column) {
    const float v = x.at(slot, column);
    bounds[0] = fmaxf(bounds[0], v);
    bounds[1] = fmaxf(bounds[1], -v);
  });
  team.reduce(bounds, LargerOf{});
  return {-bounds[1], bounds[0]};
}

struct ExtremeColumns {
  int low;
  int high;
};

// The first columns that hold the bounds; INT_MAX where zero is the bound.
template <class Shape>
__device__ ExtremeColumns extreme_columns(const Team<Shape>& team, const Row<Shape>& x,
                                          Range range) {
  int first[2] = {INT_MAX, INT_MAX};
  team.each([&](int slot, int column) {
    const float v = x.at(slot, column);
    if (v == range.low && column < first[0]) first[0] = column;
    if (v == range.high && column < first[1]) first[1] = column;
  });
  team.reduce(first, SmallerOf{});
  return {range.low < 0.0f ? first[0] : INT_MAX, range.high > 0.0f ? first[1] : INT_MAX};
}

// This thread's part of the gradient of the scale. Rows in registers keep each element's own
// gradient in place of dy; passed_element reads it there or computes it again.
template <class Shape>
__device__ float pass_elements(const Team<Shape>& team, const Row<Shape>& x, Row<Shape>& gradients,
                               const CodeGrid& grid) {
  float dscale = 0.0f;
  team.each([&](int slot, int column) {
    const ElementGradient d =
        fake_quantized_backward(x.at(slot, column), gradients.at(slot, column), grid);
    dscale += d.scale;
    if constexpr (Shape::kInRegisters) gradients.set(slot, d.x);
  });
  return dscale;
}

template <class Shape>
__device__ float passed_element(const Row<Shape>& x, const Row<Shape>& gradients, int slot,
                                int column, const CodeGrid& grid) {
  const float d = gradients.at(slot, column);
  if constexpr (Shape::kInRegisters) return d;
  return fake_quantized_backward(x.at(slot, column), d, grid).x;
}

}  // namespace abq::compute::cuda
