// The reference device: every operation of compute::Device as its formula, on Eigen in float64,
// rounded to float32 once at the end. Shares no code with the devices that it judges.
//
// Slow, and as deterministic as the others. The IR interpreter on this device is the reference of
// the whole path; passes, which run it on every calibration token, use a fast device.
#pragma once

#include "compute/device.h"

namespace abq::compute {

// Lives as long as the process.
const Device& reference_device();

}  // namespace abq::compute
