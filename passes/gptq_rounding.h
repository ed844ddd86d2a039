// Rounding with error compensation in the passes' words (compute/compensated_rounding.h): one
// layer, by search or on grids and clip factors that a pass has learned.
#pragma once

#include <span>
#include <vector>

#include "compute/compensated_rounding.h"
#include "quant/affine.h"
#include "quant/report.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::passes {

// A layer whose codes a pass chose; `quantize` stores them as they are.
struct RoundedLayer {
  quant::QuantizedWeights weights;
  std::vector<quant::ClipRatio> clips;  // [N, G]
  quant::RoundingReport report;
};

// Grids [N, G] row by row. Nothing: by clip search. Clip factors: the range of each row, or of each
// group as compensated, times these. Scales with zero points: as they are.
struct ChosenGrids {
  std::span<const quant::ClipRatio> clips;
  std::span<const float> scales;
  std::span<const uint8_t> zeros;
};

// Rounds w[N, K] for the inputs that `rounder` has seen. InvalidArgument as in
// quant::quantize_weights and compute::CompensatedRounder::round, and for grids of a wrong size or
// clip factors outside (0, 1].
Result<RoundedLayer> round_layer(compute::CompensatedRounder& rounder, MatrixView<const float> w,
                                 const quant::WeightSpec& spec, const ChosenGrids& grids = {});

}  // namespace abq::passes
