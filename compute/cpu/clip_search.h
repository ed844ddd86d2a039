// The clip search of rounding with error compensation: quant::search_clips, operation for
// operation.
#pragma once

#include <span>

#include "compute/compensated_rounding.h"
#include "compute/cpu/tensor_kernels.h"

namespace abq::compute {

// Minimum and maximum of the values and 0.
Extremes extremes_of(std::span<const float> values);

// The factor of 1, 0.975, ..., 0.35 on both ends of the range with the least sum of
// |w' - w|^2.4; the first one wins. 1 for binary weights.
float best_clip_factor(std::span<const float> values, const WeightQuantizer& quantizer);

}  // namespace abq::compute
