// Fake quantization of weights with learned clip factors: a group (or a whole row) of weights is a
// row of these kernels.
#include "compute/cuda/row_kernels.h"
#include "compute/cuda/straight_through.cuh"

namespace abq::compute::cuda {
namespace {

// Quantizers with a range: asymmetric and symmetric.
struct RangeQuantizer {
  const float* clip_low;  // one per group; both null: 1
  const float* clip_high;
  bool symmetric;
  float max_code;
  float steps;
  float zero;

  __device__ Range clips(int64_t group) const {
    if (clip_low == nullptr) return {1.0f, 1.0f};
    return {clip_low[group], clip_high[group]};
  }
  __device__ CodeGrid grid(Range clipped) const {
    if (clipped.low != clipped.low || clipped.high != clipped.high) return broken_grid(max_code);
    return symmetric ? symmetric_grid(clipped.low, clipped.high, steps, zero, max_code)
                     : asymmetric_grid(clipped.low, clipped.high, max_code);
  }
  __device__ RangeGradient gradient(float dscale, Range clipped, const CodeGrid& grid) const {
    return symmetric ? symmetric_range_gradient(dscale, clipped.low, clipped.high, steps, grid)
                     : asymmetric_range_gradient(dscale, grid);
  }
};

__device__ Range scaled(Range range, Range clips) {
  return {multiply_rn(range.low, clips.low), multiply_rn(range.high, clips.high)};
}

struct QuantizeWeight {
  RangeQuantizer quantizer;
  const float* w;
  float* y;
  int64_t length;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t group) const {
    const Row<Shape> values(team, w + group * length);
    const Range range = range_of(team, values);
    const CodeGrid grid = quantizer.grid(scaled(range, quantizer.clips(group)));
    team.store(y + group * length,
               [&](int slot, int column) { return fake_quantized(values.at(slot, column), grid); });
  }
};

struct QuantizeWeightBackward {
  RangeQuantizer quantizer;
  const float* w;
  const float* dy;
  float* dw;
  float* dclip_low;
  float* dclip_high;
  int64_t length;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t group) const {
    const Row<Shape> values(team, w + group * length);
    Row<Shape> gradients(team, dy + group * length);
    const Range range = range_of(team, values);
    const Range clips = quantizer.clips(group);
    const Range clipped = scaled(range, clips);
    const CodeGrid grid = quantizer.grid(clipped);
    const ExtremeColumns extremes = extreme_columns(team, values, range);
    const float dscale = team.sum(pass_elements(team, values, gradients, grid));
    const RangeGradient bounds = quantizer.gradient(dscale, clipped, grid);
    team.store(dw + group * length, [&](int slot, int column) {
      float d = passed_element(values, gradients, slot, column, grid);
      if (column == extremes.low) d += bounds.low * clips.low;
      if (column == extremes.high) d += bounds.high * clips.high;
      return d;
    });
    if (team.leads() && dclip_low != nullptr) {
      dclip_low[group] = bounds.low * range.low;
      dclip_high[group] = bounds.high * range.high;
    }
  }
};

// Binary weights: +-s, s = mean|w|, of which the CPU keeps the double as the scale of its codes.
struct BinaryScale {
  float scale;  // 2 s
  bool guarded;
};

template <class Shape>
__device__ BinaryScale binary_scale(const Team<Shape>& team, const Row<Shape>& w, int64_t length) {
  double sum[1] = {0.0};
  team.each([&](int slot, int column) { sum[0] += fabs(static_cast<double>(w.at(slot, column))); });
  team.reduce(sum, SumOf{});
  const float scale = static_cast<float>(2.0 * sum[0] / static_cast<double>(length));
  return scale > kMinScale ? BinaryScale{scale, false} : BinaryScale{kMinScale, true};
}

struct BinarizeWeight {
  const float* w;
  float* y;
  int64_t length;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t group) const {
    const Row<Shape> values(team, w + group * length);
    const float s = 0.5f * binary_scale(team, values, length).scale;
    team.store(y + group * length,
               [&](int slot, int column) { return values.at(slot, column) >= 0.0f ? s : -s; });
  }
};

// dw = dy where |w| <= s, plus ds sign(w) / length, ds = sum dy (w >= 0 ? 1 : -1).
struct BinarizeWeightBackward {
  const float* w;
  const float* dy;
  float* dw;
  float* dclip_low;
  float* dclip_high;
  int64_t length;

  template <class Shape>
  __device__ void operator()(const Team<Shape>& team, int64_t group) const {
    const Row<Shape> values(team, w + group * length);
    const Row<Shape> gradients(team, dy + group * length);
    const BinaryScale scale = binary_scale(team, values, length);
    float ds = 0.0f;
    team.each([&](int slot, int column) {
      const float d = gradients.at(slot, column);
      ds += values.at(slot, column) >= 0.0f ? d : -d;
    });
    ds = team.sum(ds);
    const float s = 0.5f * scale.scale;
    const float share = scale.guarded ? 0.0f : ds / static_cast<float>(length);
    team.store(dw + group * length, [&](int slot, int column) {
      const float v = values.at(slot, column);
      const float passed = fabsf(v) <= s ? gradients.at(slot, column) : 0.0f;
      return passed + (v > 0.0f ? share : v < 0.0f ? -share : 0.0f);
    });
    if (team.leads() && dclip_low != nullptr) {
      dclip_low[group] = 0.0f;
      dclip_high[group] = 0.0f;
    }
  }
};

RangeQuantizer range_quantizer(const float* clip_low, const float* clip_high,
                               const WeightGrid& grid) {
  return {clip_low,
          clip_high,
          grid.kind == WeightGrid::Kind::kSymmetric,
          static_cast<float>(grid.levels - 1),
          static_cast<float>(grid.steps),
          static_cast<float>(grid.zero)};
}

}  // namespace

void fake_quantize_weight(const float* w, const float* clip_low, const float* clip_high,
                          const WeightGrid& grid, float* y, int64_t rows, int64_t cols,
                          cudaStream_t stream) {
  if (rows == 0 || cols == 0) return;
  const int64_t length = grid.group_size;
  const int64_t groups = rows * (cols / length);
  const bool aligned = all_aligned16(w, y);
  if (grid.kind == WeightGrid::Kind::kBinary) {
    return for_rows(BinarizeWeight{w, y, length}, groups, length, aligned, stream);
  }
  for_rows(QuantizeWeight{range_quantizer(clip_low, clip_high, grid), w, y, length}, groups, length,
           aligned, stream);
}

void fake_quantize_weight_backward(const float* w, const float* clip_low, const float* clip_high,
                                   const WeightGrid& grid, const float* dy, float* dw,
                                   float* dclip_low, float* dclip_high, int64_t rows, int64_t cols,
                                   cudaStream_t stream) {
  if (rows == 0 || cols == 0) return;
  const int64_t length = grid.group_size;
  const int64_t groups = rows * (cols / length);
  const bool aligned = all_aligned16(w, dy, dw);
  if (grid.kind == WeightGrid::Kind::kBinary) {
    return for_rows(BinarizeWeightBackward{w, dy, dw, dclip_low, dclip_high, length}, groups,
                    length, aligned, stream);
  }
  for_rows(QuantizeWeightBackward{range_quantizer(clip_low, clip_high, grid), w, dy, dw, dclip_low,
                                  dclip_high, length},
           groups, length, aligned, stream);
}

}  // namespace abq::compute::cuda
