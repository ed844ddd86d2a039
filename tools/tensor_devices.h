// The device that calibrated and learned passes compute on.
#pragma once

#include <memory>
#include <string_view>

#include "compute/tensor_device.h"
#include "support/status.h"

namespace abq::tools {

// "cpu"; "cuda"; or "auto": CUDA where it works, else the CPU, with the reason in the log.
// InvalidArgument for other words; with "cuda", what CUDA lacks.
Result<std::shared_ptr<compute::TensorDevice>> create_tensor_device(std::string_view choice);

}  // namespace abq::tools
