// Times of the half kernels, printed beside the read of the same bytes.
#pragma once

#include "support/status.h"

namespace abq::runtime::cuda {

Status print_half_times();

}  // namespace abq::runtime::cuda
