#include "compute/rounding_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace abq::compute {
namespace {

constexpr double kDamping = 0.01;
constexpr int kDampingSteps = 6;  // each ten times the one before

}  // namespace

Result<RoundingOrder> order_columns(std::span<const double> diagonal, bool by_diagonal) {
  RoundingOrder order;
  order.diagonal.assign(diagonal.begin(), diagonal.end());
  double sum = 0;
  int64_t live = 0;
  for (size_t i = 0; i < diagonal.size(); ++i) {
    if (!std::isfinite(diagonal[i]))
      return invalid_argument(
          "input channel {} has NaN, Inf or squares beyond the range of floats; expected finite "
          "activations",
          i);
    sum += diagonal[i];
    live += diagonal[i] > 0 ? 1 : 0;
  }
  order.mean = live > 0 ? sum / static_cast<double>(live) : 1;
  for (double& d : order.diagonal)
    d = d > 0 ? d : order.mean;
  order.mean = std::accumulate(order.diagonal.begin(), order.diagonal.end(), 0.0) /
               static_cast<double>(diagonal.size());
  order.columns.resize(diagonal.size());
  std::iota(order.columns.begin(), order.columns.end(), 0);
  if (by_diagonal)
    std::stable_sort(order.columns.begin(), order.columns.end(), [&](int64_t a, int64_t b) {
      return order.diagonal[static_cast<size_t>(a)] > order.diagonal[static_cast<size_t>(b)];
    });
  return order;
}

Result<double> factor_with_damping(const RoundingOrder& order,
                                   const std::function<bool(double added)>& factorize) {
  double damping = kDamping;
  for (int step = 0; step < kDampingSteps; ++step, damping *= 10)
    if (factorize(damping * order.mean)) return damping;
  return invalid_argument(
      "the inputs' products are not positive definite, even damped by {:g} times their mean "
      "diagonal {:g}; round this layer with method rtn, or calibrate on other text",
      damping / 10, order.mean);
}

void check_rounding(MatrixView<const float> w, int64_t k, const WeightQuantizer& quantizer,
                    const RoundingGrids& grids) {
  ABQ_CHECK(w.cols == k && w.rows > 0);
  ABQ_CHECK(quantizer.levels >= 2 && quantizer.levels <= 256);
  const int64_t group = quantizer.group_size > 0 ? quantizer.group_size : k;
  ABQ_CHECK(k % group == 0 && (group == k || kRoundingColumns % group == 0));
  const auto count = static_cast<size_t>(w.rows * (k / group));
  ABQ_CHECK(grids.scales.size() == grids.zeros.size());
  ABQ_CHECK(grids.scales.empty() || grids.scales.size() == count);
  ABQ_CHECK(grids.clip_low.size() == grids.clip_high.size());
  ABQ_CHECK(grids.clip_low.empty() || grids.clip_low.size() == count);
  ABQ_CHECK(grids.scales.empty() || grids.clip_low.empty());
}

Status check_rounded_scales(std::span<const float> scales) {
  if (std::all_of(scales.begin(), scales.end(), [](float s) { return std::isfinite(s); }))
    return {};
  return invalid_argument("the range of compensated weights exceeds float32; rescale the layer");
}

}  // namespace abq::compute
