// What the rounders of all fast devices decide on the host: the order of columns, and how much is
// added to the diagonal of H before it can be factored.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "compute/compensated_rounding.h"
#include "support/status.h"

namespace abq::compute {

inline constexpr int64_t kRoundingColumns = 128;  // a block; sizes of groups divide it

struct RoundingOrder {
  std::vector<int64_t> columns;  // position -> column
  // H's diagonal by column, with the mean of the others for inputs that were always 0. Those have
  // no part in any product, so that their weights are rounded to nearest.
  std::vector<double> diagonal;
  double mean = 0;  // of `diagonal`
};

// InvalidArgument when the diagonal is NaN or Inf; an element of H is never larger than the largest
// of its diagonal.
Result<RoundingOrder> order_columns(std::span<const double> diagonal, bool by_diagonal);

// Calls factorize(added) for growing damping until it is true; `added` goes to every element of the
// diagonal. The damping, as a part of the mean.
Result<double> factor_with_damping(const RoundingOrder& order,
                                   const std::function<bool(double added)>& factorize);

// What round() asks of its arguments.
void check_rounding(MatrixView<const float> w, int64_t k, const WeightQuantizer& quantizer,
                    const RoundingGrids& grids);
// InvalidArgument when a scale is not finite.
Status check_rounded_scales(std::span<const float> scales);

}  // namespace abq::compute
