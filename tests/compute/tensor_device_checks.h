// The body of the tests of a tensor device, whichever it is.
#pragma once

#include "compute/tensor_device.h"
#include "tensor_cases.h"

namespace abq::compute {

// The results of a case on a device, in host memory.
std::vector<std::vector<float>> results_on(TensorDevice& device, const TensorCase& c);

// Each result agrees with the reference device's, and is the same to the bit when the memory that
// results are written to held NaN before.
void check_matches_reference(TensorDevice& device, const std::vector<TensorCase>& cases);
// Copies, views, filled and assigned tensors.
void check_memory(TensorDevice& device);
// Offsets of rounded weights at halves, at the bounds, beyond them and NaN, worked out by hand.
void check_rounded_weights(TensorDevice& device);
// NaN in a loss's or a norm's input is seen in its result.
void check_shows_nan(TensorDevice& device);
// NaN in statistics of columns, in clip factors and in what is quantized.
void check_nan_of_ranges(TensorDevice& device);
// After a matrix that cannot be had, everything goes on in shape and says what failed. The device
// is of no use afterwards.
void check_sticky_error(TensorDevice& device);

}  // namespace abq::compute
