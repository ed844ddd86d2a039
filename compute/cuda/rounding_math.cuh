// Rounding with error compensation as one warp does it for one row: the clip search of
// quant/clip_search.cpp, and a block of columns of GPTQ. `Warp` says which lane this is and passes
// values between lanes; tests run the same code on the host, a thread for each lane.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "compute/cuda/quantizer_math.cuh"
#include "compute/cuda/rounding_kernels.h"

#ifdef __CUDA_ARCH__
#define ABQ_UNROLL _Pragma("unroll")
#else
#define ABQ_UNROLL
#endif

namespace abq::compute::cuda {

constexpr int kLanes = 32;
constexpr int kSlots = kRoundingBlock / kLanes;  // columns of a block that a lane holds
constexpr int kClipFactors = 27;                 // 1, 0.975, ..., 0.35

ABQ_HOST_DEVICE float larger(float a, float b) {
  return a < b ? b : a;
}
ABQ_HOST_DEVICE float smaller(float a, float b) {
  return b < a ? b : a;
}

// |e|^2.4 = (|e| r)^3 with r = |e|^-0.2 by Newton's iteration, from a start that is linear in the
// bit pattern.
ABQ_HOST_DEVICE float power_2_4(float e) {
  constexpr float kStart = 1278017536.0f;
  const float a = e < 0.0f ? -e : e;
  int32_t bits;
  __builtin_memcpy(&bits, &a, sizeof bits);
  const auto guess = static_cast<int32_t>(kStart - 0.2f * static_cast<float>(bits));
  float r;
  __builtin_memcpy(&r, &guess, sizeof r);
  ABQ_UNROLL
  for (int i = 0; i < 3; ++i) {
    const float square = r * r;
    r = r * (1.2f - 0.2f * (a * r * square * square));
  }
  const float root = a * r;
  return root * root * root;
}

// The same sum in every lane, in a fixed order.
template <class Warp>
ABQ_HOST_DEVICE double warp_sum(const Warp& warp, double value) {
  ABQ_UNROLL
  for (int mask = kLanes / 2; mask > 0; mask /= 2)
    value += warp.exchange(value, mask);
  return value;
}

// Values of a row in memory, every 32nd of which is a lane's.
struct RowValues {
  const float* values;
  int64_t count;
  int lane;

  template <class F>
  ABQ_HOST_DEVICE void each(F f) const {
    for (int64_t i = lane; i < count; i += kLanes)
      f(values[i]);
  }
};

// Slots first .. last - 1 of a block of columns.
struct SlotValues {
  float values[kSlots];
  int first;
  int last;

  template <class F>
  ABQ_HOST_DEVICE void each(F f) const {
    ABQ_UNROLL
    for (int s = 0; s < kSlots; ++s)
      if (s >= first && s < last) f(values[s]);
  }
};

// A grid and the clip factors that it was made with.
struct ChosenGrid {
  CodeGrid grid;
  float clip_low;
  float clip_high;
};

// Minimum and maximum of values and 0.
struct Bounds {
  float low;
  float high;
};

ABQ_HOST_DEVICE CodeGrid grid_of(const GridRule& rule, Bounds range, float clip_low,
                                 float clip_high) {
  const float low = multiply_rn(range.low, clip_low);
  const float high = multiply_rn(range.high, clip_high);
  return rule.kind == GridRule::kSymmetric
             ? symmetric_grid(low, high, rule.steps, rule.zero, rule.max_code)
             : asymmetric_grid(low, high, rule.max_code);
}

// +-mean |w| as codes 0 and 1 about 1/2.
template <class Warp, class Values>
ABQ_HOST_DEVICE CodeGrid binary_grid(const Warp& warp, const Values& values, int64_t count) {
  double sum = 0;
  values.each([&](float v) { sum += static_cast<double>(v < 0.0f ? -v : v); });
  sum = warp_sum(warp, sum);
  const float scale = static_cast<float>(2.0 * sum / static_cast<double>(count));
  const bool guarded = !(scale > kMinScale);
  return {guarded ? kMinScale : scale, 0.5f, 1.0f, guarded};
}

template <class Warp, class Values>
ABQ_HOST_DEVICE Bounds bounds_of(const Warp& warp, const Values& values) {
  Bounds range{0.0f, 0.0f};
  values.each([&](float v) {
    range.low = smaller(range.low, v);
    range.high = larger(range.high, v);
  });
  ABQ_UNROLL
  for (int mask = kLanes / 2; mask > 0; mask /= 2) {
    range.low = smaller(range.low, warp.exchange(range.low, mask));
    range.high = larger(range.high, warp.exchange(range.high, mask));
  }
  return range;
}

// The factor with the least sum of |w' - w|^2.4; the first one wins.
template <class Warp, class Values>
ABQ_HOST_DEVICE ChosenGrid search_grid(const Warp& warp, const GridRule& rule, Bounds range,
                                       const Values& values) {
  const float bound = larger(kMinScale, larger(-range.low, range.high));
  const float inverse = divide_rn(1.0f, bound);
  ChosenGrid best{};
  double best_loss = 0;
  for (int i = 0; i < kClipFactors; ++i) {
    const float factor = divide_rn(static_cast<float>(40 - i), 40.0f);
    const CodeGrid grid = grid_of(rule, range, factor, factor);
    float sum = 0.0f;
    values.each([&](float v) { sum += power_2_4((fake_quantized(v, grid) - v) * inverse); });
    const double loss = warp_sum(warp, static_cast<double>(sum));
    if (i > 0 && !(loss < best_loss)) continue;
    best_loss = loss;
    best = {grid, factor, factor};
  }
  return best;
}

// The grid of `count` values of a warp. Those of given clip factors take them from `clips`.
template <class Warp, class Values>
ABQ_HOST_DEVICE ChosenGrid choose_grid(const Warp& warp, const GridRule& rule, const Values& values,
                                       int64_t count, float clip_low, float clip_high) {
  if (rule.kind == GridRule::kBinary)  // has no range to clip
    return {binary_grid(warp, values, count), rule.searched ? 1.0f : clip_low,
            rule.searched ? 1.0f : clip_high};
  const Bounds range = bounds_of(warp, values);
  if (rule.searched) return search_grid(warp, rule, range, values);
  return {grid_of(rule, range, clip_low, clip_high), clip_low, clip_high};
}

// Binary weights are 1/2 above or below their zero point.
ABQ_HOST_DEVICE float zero_of(const GridRule& rule, float stored) {
  return rule.kind == GridRule::kBinary ? 0.5f * stored : stored;
}

ABQ_HOST_DEVICE CodeGrid stored_grid(const GridRule& rule, const GridTable& grids, int64_t index) {
  return {grids.scales[index], zero_of(rule, grids.zeros[index]), rule.max_code, false};
}

ABQ_HOST_DEVICE void store_grid(const GridRule& rule, const ChosenGrid& chosen, GridTable& grids,
                                int64_t index) {
  grids.scales[index] = chosen.grid.scale;
  grids.zeros[index] = rule.kind == GridRule::kBinary ? 1.0f : chosen.grid.zero;
  grids.clip_low[index] = chosen.clip_low;
  grids.clip_high[index] = chosen.clip_high;
}

ABQ_HOST_DEVICE float code_for(const GridRule& rule, const CodeGrid& grid, float value) {
  if (rule.kind == GridRule::kBinary) return value >= 0.0f ? 1.0f : 0.0f;
  return clamp_code(add_rn(round_half_even(divide_rn(value, grid.scale)), grid.zero),
                    grid.max_code);
}

ABQ_HOST_DEVICE float value_of(const CodeGrid& grid, float code) {
  return multiply_rn(grid.scale, subtract_rn(code, grid.zero));
}

// Rounds columns begin .. begin + cols - 1 of one row, in order; slot s of a lane is column
// 32 s + lane of the block.
template <class Warp>
ABQ_HOST_DEVICE void round_block(const Warp& warp, const GridRule& rule, RoundBlock& block,
                                 int64_t row) {
  const int lane = warp.lane();
  double rest[kSlots], inverse[kSlots], errors[kSlots];
  float codes[kSlots], values[kSlots];
  ABQ_UNROLL
  for (int s = 0; s < kSlots; ++s) {
    const int c = kLanes * s + lane;
    const bool there = c < block.cols;
    const int64_t position = block.begin + c;
    rest[s] = there ? block.rest[row * block.k + position] : 0.0;
    inverse[s] = there ? 1.0 / block.upper[position * block.k + position] : 0.0;
    errors[s] = 0.0;
    codes[s] = values[s] = 0.0f;
  }
  CodeGrid grid{};
  if (block.group == 0) grid = stored_grid(rule, block.grids, row);
  ABQ_UNROLL
  for (int s = 0; s < kSlots; ++s) {
    if (kLanes * s >= block.cols) break;
    if (block.group > 0 && kLanes * s % block.group == 0) {
      const int64_t index = (row * block.k + block.begin + kLanes * s) / block.group;
      if (rule.given) {
        grid = stored_grid(rule, block.grids, index);
      } else {
        SlotValues group{{}, s, s + block.group / kLanes};
        ABQ_UNROLL
        for (int i = 0; i < kSlots; ++i)
          group.values[i] = static_cast<float>(rest[i]);
        const ChosenGrid chosen =
            choose_grid(warp, rule, group, block.group, block.grids.clip_low[index],
                        block.grids.clip_high[index]);
        grid = chosen.grid;
        if (lane == 0) store_grid(rule, chosen, block.grids, index);
      }
    }
    for (int t = 0; t < kLanes; ++t) {
      const int c = kLanes * s + t;
      if (c >= block.cols) break;
      const double now = warp.from(rest[s], t);
      const float code = code_for(rule, grid, static_cast<float>(now));
      const float value = value_of(grid, code);
      const double error = (now - static_cast<double>(value)) * warp.from(inverse[s], t);
      if (lane == t) {
        errors[s] = error;
        codes[s] = code;
        values[s] = value;
      }
      const double* const upper = block.upper + (block.begin + c) * block.k + block.begin;
      ABQ_UNROLL
      for (int i = s; i < kSlots; ++i) {
        const int column = kLanes * i + lane;
        if (column > c && column < block.cols) rest[i] -= error * upper[column];
      }
    }
  }
  double loss = 0;
  ABQ_UNROLL
  for (int s = 0; s < kSlots; ++s) {
    const int c = kLanes * s + lane;
    if (c >= block.cols) continue;
    const int64_t column = block.columns[block.begin + c];
    block.errors[row * kRoundingBlock + c] = errors[s];
    block.codes[row * block.k + column] = static_cast<uint8_t>(static_cast<int>(codes[s]));
    // The sum of squared errors over U's diagonal is the loss under the damped H.
    const double moved =
        static_cast<double>(values[s]) - static_cast<double>(block.w[row * block.k + column]);
    loss += errors[s] * errors[s] - block.added[block.begin + c] * moved * moved;
  }
  loss = warp_sum(warp, loss);
  if (lane == 0) block.losses[row] += loss;
}

}  // namespace abq::compute::cuda
