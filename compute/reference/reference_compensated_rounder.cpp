// GPTQ's equations as they stand (arXiv 2210.17323, equations 2 and 3): the inverse is made once,
// every column that has been rounded is eliminated from it, and every row is updated as a whole.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "compute/reference/reference_tensor_device.h"
#include "compute/rounding_order.h"

namespace abq::compute {
namespace {

using Kind = WeightQuantizer::Kind;
using Square = std::vector<std::vector<double>>;

constexpr double kMinScale = 1e-8;

struct Grid {
  float scale = 0;
  int zero = 0;  // over 2 for binary weights
  double clip_low = 1;
  double clip_high = 1;
};

// Rounds half to even, float32 as docs/quantization.md asks.
struct Quantizer {
  WeightQuantizer how;

  int code(double value, const Grid& grid) const {
    const auto v = static_cast<float>(value);
    if (how.kind == Kind::kBinary) return v >= 0 ? 1 : 0;
    const float q = std::nearbyint(v / grid.scale) + static_cast<float>(grid.zero);
    return static_cast<int>(std::clamp(q, 0.0f, static_cast<float>(how.levels - 1)));
  }
  double value(int code, const Grid& grid) const {
    const float zero = static_cast<float>(grid.zero) / (how.kind == Kind::kBinary ? 2.0f : 1.0f);
    return static_cast<double>(grid.scale * (static_cast<float>(code) - zero));
  }
  Grid grid(std::span<const double> values, double clip_low, double clip_high) const {
    Grid grid{0, 0, clip_low, clip_high};
    float low = 0, high = 0;
    double magnitude = 0;
    for (const double v : values) {
      low = std::min(low, static_cast<float>(v));
      high = std::max(high, static_cast<float>(v));
      magnitude += std::fabs(static_cast<double>(static_cast<float>(v)));
    }
    low *= static_cast<float>(clip_low);
    high *= static_cast<float>(clip_high);
    const auto guard = [](float scale) { return std::max(scale, static_cast<float>(kMinScale)); };
    if (how.kind == Kind::kBinary) {
      grid.scale = guard(static_cast<float>(2 * magnitude / static_cast<double>(values.size())));
      grid.zero = 1;
    } else if (how.kind == Kind::kSymmetric) {
      grid.scale = guard(2 * std::max(high, -low) / static_cast<float>(how.steps));
      grid.zero = how.zero;
    } else {
      const auto top = static_cast<float>(how.levels - 1);
      grid.scale = guard((high - low) / top);
      grid.zero = static_cast<int>(std::clamp(std::nearbyint(-low / grid.scale), 0.0f, top));
    }
    return grid;
  }
  Grid searched(std::span<const double> values) const {
    if (how.kind == Kind::kBinary) return grid(values, 1, 1);
    Grid best;
    double best_loss = HUGE_VAL;
    for (int step = 40; step >= 14; --step) {
      const Grid next = grid(values, step / 40.0, step / 40.0);
      double loss = 0;
      for (const double v : values)
        loss += std::pow(std::fabs(value(code(v, next), next) - v), 2.4);
      if (loss >= best_loss) continue;
      best_loss = loss;
      best = next;
    }
    return best;
  }
};

// Gauss-Jordan; empty when a pivot is not positive.
Square inverse_of(Square a) {
  const size_t k = a.size();
  Square inverse(k, std::vector<double>(k));
  for (size_t i = 0; i < k; ++i)
    inverse[i][i] = 1;
  for (size_t p = 0; p < k; ++p) {
    const double pivot = a[p][p];
    if (!(pivot > 0)) return {};
    for (size_t j = 0; j < k; ++j) {
      a[p][j] /= pivot;
      inverse[p][j] /= pivot;
    }
    for (size_t i = 0; i < k; ++i) {
      const double f = i == p ? 0 : a[i][p];
      for (size_t j = 0; f != 0 && j < k; ++j) {
        a[i][j] -= f * a[p][j];
        inverse[i][j] -= f * inverse[p][j];
      }
    }
  }
  return inverse;
}

class ReferenceRounder final : public CompensatedRounder {
 public:
  explicit ReferenceRounder(int64_t k)
      : k_(static_cast<size_t>(k)), sums_(k_, std::vector<double>(k_)) {}

  void add(const Tensor& x) override {
    for (int64_t t = 0; t < x.rows(); ++t)
      for (size_t i = 0; i < k_; ++i)
        for (size_t j = 0; j < k_; ++j)
          sums_[i][j] += at(x, t, static_cast<int64_t>(i)) * at(x, t, static_cast<int64_t>(j));
    tokens_ += static_cast<double>(x.rows());
  }
  void add_products(std::span<const double> products, int64_t tokens) override {
    for (size_t i = 0; i < k_; ++i)
      for (size_t j = 0; j < k_; ++j)
        sums_[i][j] += products[i * k_ + j];
    tokens_ += static_cast<double>(tokens);
  }
  std::vector<double> hessian() override {
    std::vector<double> h;
    for (const std::vector<double>& row : sums_)
      for (const double sum : row)
        h.push_back(tokens_ > 0 ? 2 * sum / tokens_ : 0);
    return h;
  }

  Result<CompensatedWeights> round(MatrixView<const float> w, const WeightQuantizer& quantizer,
                                   const RoundingGrids& grids) override {
    check_rounding(w, static_cast<int64_t>(k_), quantizer, grids);
    const std::vector<double> h = hessian();
    Result<RoundingOrder> order = column_order(h, quantizer);
    if (!order.ok()) return order.status();
    const std::vector<int64_t>& columns = order->columns;
    Square inverse;
    const auto factorize = [&](double added) {
      Square damped(k_, std::vector<double>(k_));
      for (size_t i = 0; i < k_; ++i)
        for (size_t j = 0; j < k_; ++j) {
          const auto a = static_cast<size_t>(columns[i]), b = static_cast<size_t>(columns[j]);
          damped[i][j] = i == j ? order->diagonal[a] + added : h[a * k_ + b];
        }
      inverse = inverse_of(std::move(damped));
      return !inverse.empty();
    };
    ABQ_ASSIGN_OR_RETURN(const double damping, factor_with_damping(*order, factorize));
    CompensatedWeights weights;
    weights.damping = damping;
    round_columns(w, {quantizer}, grids, columns, std::move(inverse), weights);
    ABQ_RETURN_IF_ERROR(check_rounded_scales(weights.scales));
    weights.loss = loss_of(w, {quantizer}, weights, h);
    weights.nearest_loss = nearest_loss(w, {quantizer}, grids, weights, h);
    return weights;
  }

 private:
  size_t length(const Quantizer& quantizer) const {
    return quantizer.how.group_size > 0 ? static_cast<size_t>(quantizer.how.group_size) : k_;
  }

  Result<RoundingOrder> column_order(const std::vector<double>& h,
                                     const WeightQuantizer& quantizer) const {
    std::vector<double> diagonal;
    for (size_t i = 0; i < k_; ++i)
      diagonal.push_back(h[i * k_ + i]);
    return order_columns(diagonal, length({quantizer}) == k_);
  }

  void round_columns(MatrixView<const float> w, const Quantizer& quantizer,
                     const RoundingGrids& given, const std::vector<int64_t>& columns,
                     Square inverse, CompensatedWeights& weights) const {
    const size_t group = length(quantizer), groups = k_ / group;
    const auto rows = static_cast<size_t>(w.rows);
    Square rest(rows, std::vector<double>(k_));
    for (size_t r = 0; r < rows; ++r)
      for (size_t i = 0; i < k_; ++i)
        rest[r][i] = static_cast<double>(w.row(static_cast<int64_t>(r))[columns[i]]);
    weights.codes.resize(rows * k_);
    weights.scales.resize(rows * groups);
    weights.zeros.resize(rows * groups);
    weights.clip_low.resize(rows * groups);
    weights.clip_high.resize(rows * groups);
    for (size_t q = 0; q < k_; ++q) {
      for (size_t r = 0; r < rows; ++r) {
        const size_t index = r * groups + q / group;
        if (q % group == 0)
          store(weights, index,
                grid_for(std::span(rest[r]).subspan(q, group), quantizer, given, index));
        const Grid grid{weights.scales[index], weights.zeros[index]};
        const int code = quantizer.code(rest[r][q], grid);
        weights.codes[r * k_ + static_cast<size_t>(columns[q])] = static_cast<uint8_t>(code);
        const double error = (rest[r][q] - quantizer.value(code, grid)) / inverse[q][q];
        for (size_t j = q; j < k_; ++j)
          rest[r][j] -= error * inverse[q][j];
      }
      const std::vector<double> pivot = inverse[q];
      for (size_t i = q + 1; i < k_; ++i)
        for (size_t j = q + 1; j < k_; ++j)
          inverse[i][j] -= pivot[i] * pivot[j] / pivot[q];
    }
  }

  static Grid grid_for(std::span<const double> values, const Quantizer& quantizer,
                       const RoundingGrids& given, size_t index) {
    if (!given.scales.empty()) return {given.scales[index], given.zeros[index], 1, 1};
    if (given.clip_low.empty()) return quantizer.searched(values);
    return quantizer.grid(values, static_cast<double>(given.clip_low[index]),
                          static_cast<double>(given.clip_high[index]));
  }
  static void store(CompensatedWeights& weights, size_t index, const Grid& grid) {
    weights.scales[index] = grid.scale;
    weights.zeros[index] = static_cast<uint8_t>(grid.zero);
    weights.clip_low[index] = static_cast<float>(grid.clip_low);
    weights.clip_high[index] = static_cast<float>(grid.clip_high);
  }

  // With the codes that there are, or those nearest to w.
  double loss_of(MatrixView<const float> w, const Quantizer& quantizer,
                 const CompensatedWeights& weights, const std::vector<double>& h) const {
    const size_t group = length(quantizer), groups = k_ / group;
    double sum = 0;
    std::vector<double> error(k_);
    for (size_t r = 0; r < static_cast<size_t>(w.rows); ++r) {
      for (size_t i = 0; i < k_; ++i) {
        const size_t index = r * groups + i / group;
        error[i] = quantizer.value(weights.codes[r * k_ + i],
                                   {weights.scales[index], weights.zeros[index]}) -
                   static_cast<double>(w.row(static_cast<int64_t>(r))[i]);
      }
      for (size_t i = 0; i < k_; ++i)
        for (size_t j = 0; j < k_; ++j)
          sum += error[i] * h[i * k_ + j] * error[j];
    }
    return sum;
  }
  double nearest_loss(MatrixView<const float> w, const Quantizer& quantizer,
                      const RoundingGrids& given, CompensatedWeights weights,
                      const std::vector<double>& h) const {
    const size_t group = length(quantizer), groups = k_ / group;
    for (size_t r = 0; r < static_cast<size_t>(w.rows); ++r) {
      const std::span<const float> row = w.row_span(static_cast<int64_t>(r));
      const std::vector<double> values(row.begin(), row.end());
      for (size_t g = 0; g < groups; ++g) {
        const size_t index = r * groups + g;
        if (given.scales.empty())
          store(weights, index,
                quantizer.grid(std::span(values).subspan(g * group, group),
                               static_cast<double>(weights.clip_low[index]),
                               static_cast<double>(weights.clip_high[index])));
        for (size_t i = g * group; i < (g + 1) * group; ++i)
          weights.codes[r * k_ + i] = static_cast<uint8_t>(
              quantizer.code(values[i], {weights.scales[index], weights.zeros[index]}));
      }
    }
    return loss_of(w, quantizer, weights, h);
  }

  size_t k_;
  Square sums_;
  double tokens_ = 0;
};

}  // namespace

std::unique_ptr<CompensatedRounder> ReferenceTensorDevice::create_rounder(int64_t k) {
  return std::make_unique<ReferenceRounder>(k);
}

}  // namespace abq::compute
