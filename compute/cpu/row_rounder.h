// How the CPU rounds some rows of a layer: their grids, and their way through the columns.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <span>
#include <vector>

#include "compute/cpu/clip_search.h"
#include "compute/cpu/weight_grid.h"
#include "compute/rounding_order.h"

namespace abq::compute {

// What rounding does to one value.
struct ValueRounder {
  bool binary = false;

  float code(float value, const QuantizerGrid& grid) const {
    if (binary) return value >= 0.0f ? 1.0f : 0.0f;
    const float q = round_half_even(value / grid.scale) + grid.zero;
    return std::max(std::min(q, grid.max_code), 0.0f);
  }
  static float value(float code, const QuantizerGrid& grid) {
    return grid.scale * (code - grid.zero);
  }
};

// The grids of a layer, and how they are made.
class Grids {
 public:
  Grids(const WeightQuantizer& quantizer, const RoundingGrids& given, CompensatedWeights& weights)
      : quantizer_(quantizer), given_(given), weights_(weights) {}

  bool binary() const { return quantizer_.kind == WeightQuantizer::Kind::kBinary; }

  // Chooses that of group `index` from its weights.
  void choose(std::span<const float> values, size_t index) {
    if (!given_.scales.empty()) {
      store(index, given_.scales[index], given_.zeros[index], 1.0f, 1.0f);
      return;
    }
    float low = 1.0f, high = 1.0f;
    if (!given_.clip_low.empty()) {
      low = given_.clip_low[index];
      high = given_.clip_high[index];
    } else {
      low = high = best_clip_factor(values, quantizer_);
    }
    const QuantizerGrid grid = made(values, low, high);
    // Over 2 for binary weights.
    store(index, grid.scale, static_cast<uint8_t>(binary() ? 2.0f * grid.zero : grid.zero), low,
          high);
  }

  QuantizerGrid at(size_t index) const {
    const float zero = static_cast<float>(weights_.zeros[index]) / (binary() ? 2.0f : 1.0f);
    return {weights_.scales[index], zero, static_cast<float>(quantizer_.levels - 1)};
  }

  // What rounding to nearest takes for these values: the chosen clip factors of their own range.
  QuantizerGrid nearest(std::span<const float> values, size_t index) const {
    if (!given_.scales.empty()) return at(index);
    return made(values, weights_.clip_low[index], weights_.clip_high[index]);
  }

 private:
  QuantizerGrid made(std::span<const float> values, float low, float high) const {
    if (binary()) return binary_grid(values);
    const Extremes range = extremes_of(values);
    return grid_of({range.low * low, range.high * high}, quantizer_);
  }
  void store(size_t index, float scale, uint8_t zero, float low, float high) {
    weights_.scales[index] = scale;
    weights_.zeros[index] = zero;
    weights_.clip_low[index] = low;
    weights_.clip_high[index] = high;
  }

  const WeightQuantizer& quantizer_;
  const RoundingGrids& given_;
  CompensatedWeights& weights_;
};

// Some rows of a layer on their way through the columns.
class RowRounder {
 public:
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using View = Eigen::Map<const Matrix>;

  RowRounder(View upper, const std::vector<int64_t>& order, std::span<const double> added,
             int64_t groups, Grids& grids, CompensatedWeights& weights)
      : upper_(upper),
        order_(order),
        added_(added),
        groups_(groups),
        length_(upper.cols() / groups),
        grids_(grids),
        rounder_{grids.binary()},
        weights_(weights) {}

  // Rows first .. first + count - 1 of w; their loss.
  double round(MatrixView<const float> w, int64_t first, int64_t count) {
    w_ = w;
    first_ = first;
    rest_.resize(count, w.cols);
    for (int64_t r = 0; r < count; ++r) {
      if (groups_ == 1) grids_.choose(w.row_span(first + r), static_cast<size_t>(first + r));
      for (int64_t j = 0; j < w.cols; ++j)
        rest_(r, j) = static_cast<double>(w.row(first + r)[column(j)]);
    }
    for (int64_t begin = 0; begin < w.cols; begin += kRoundingColumns) {
      const int64_t end = std::min(begin + kRoundingColumns, w.cols);
      errors_.resize(count, end - begin);
      for (int64_t r = 0; r < count; ++r)
        round_block(r, begin, end);
      rest_.rightCols(w.cols - end).noalias() -=
          errors_ * upper_.block(begin, end, end - begin, w.cols - end);
    }
    return loss_;
  }

 private:
  int64_t column(int64_t position) const { return order_[static_cast<size_t>(position)]; }

  void round_block(int64_t r, int64_t begin, int64_t end) {
    double* const rest = &rest_(r, 0);
    for (int64_t j = begin; j < end; ++j) {
      const double error = round_weight(r, j);
      errors_(r, j - begin) = error;
      const double* const upper = upper_.data() + j * upper_.cols();
      for (int64_t i = j + 1; i < end; ++i)
        rest[i] -= error * upper[i];
    }
  }

  // Its error over U's diagonal.
  double round_weight(int64_t r, int64_t j) {
    const int64_t row = first_ + r;
    const auto group = static_cast<size_t>(row * groups_ + j / length_);
    if (groups_ > 1 && j % length_ == 0) begin_group(r, j, group);
    const QuantizerGrid grid = grids_.at(group);
    const float code = rounder_.code(static_cast<float>(rest_(r, j)), grid);
    const auto value = static_cast<double>(ValueRounder::value(code, grid));
    const int64_t k = column(j);
    weights_.codes[static_cast<size_t>(row * w_.cols + k)] =
        static_cast<uint8_t>(static_cast<int>(code));
    const double error = (rest_(r, j) - value) / upper_(j, j);
    // The sum of squared errors over U's diagonal is the loss under the damped H.
    const double moved = value - static_cast<double>(w_.row(row)[k]);
    loss_ += error * error - added_[static_cast<size_t>(k)] * moved * moved;
    return error;
  }

  // Groups lie within blocks of columns, so that their weights are up to date here.
  void begin_group(int64_t r, int64_t j, size_t group) {
    values_.resize(static_cast<size_t>(length_));
    for (int64_t i = 0; i < length_; ++i)
      values_[static_cast<size_t>(i)] = static_cast<float>(rest_(r, j + i));
    grids_.choose(values_, group);
  }

  View upper_;
  const std::vector<int64_t>& order_;
  std::span<const double> added_;
  int64_t groups_;
  int64_t length_;
  Grids& grids_;
  ValueRounder rounder_;
  CompensatedWeights& weights_;
  MatrixView<const float> w_;
  int64_t first_ = 0;
  double loss_ = 0;
  Matrix rest_;    // [rows, K] in order: what is still to be rounded, compensated so far
  Matrix errors_;  // [rows, block]
  std::vector<float> values_;
};

}  // namespace abq::compute
