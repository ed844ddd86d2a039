// The body of the tests of rounding with error compensation, whichever the device.
#pragma once

#include "compute/tensor_device.h"

namespace abq::compute {

// Two weights whose compensation is worked out by hand.
void check_rounding_by_hand(TensorDevice& device);
// Every kind of grid, groups and given grids, over several blocks of columns: the codes of the
// reference device but for rows where a value lies on a tie.
void check_rounding_matches_reference(TensorDevice& device);
// Products agree with float64, and float64 products would change no code.
void check_rounding_precision(TensorDevice& device);
// Inputs that are always 0; products that cannot be factored at once, or at all, or are NaN.
void check_rounding_of_bad_inputs(TensorDevice& device);

}  // namespace abq::compute
