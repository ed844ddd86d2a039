// Rounds layers for a measurement, the way that a method is going to round them.
#pragma once

#include <span>
#include <vector>

#include "compute/compensated_rounding.h"
#include "quant/recipe.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::passes {

class UnitRounding {
 public:
  // abq is taken to round to nearest with searched clip factors, best with compensation: what they
  // learn beyond that is not known here.
  explicit UnitRounding(const quant::Recipe& recipe);

  // w[N, K] as rounded for the inputs that `rounder` has seen, dequantized, and its squared output
  // error there (RoundingReport). Errors of round_layer.
  struct Rounded {
    std::vector<float> weights;
    double loss = 0;
  };
  Result<Rounded> round(compute::CompensatedRounder& rounder, MatrixView<const float> w,
                        const quant::WeightSpec& spec) const;

 private:
  bool compensated_ = false;
  bool clip_search_ = false;
};

}  // namespace abq::passes
