// What the CUDA library (compute/cuda_library.h) says of this machine's devices.
#pragma once

#include <string>
#include <vector>

#include "support/status.h"

namespace abq::runtime {

// One line a device: name, architecture, memory, driver. Unsupported when this build has no CUDA
// library beside the binary, Device when it cannot be used (no driver, no device), with the reason.
Result<std::vector<std::string>> describe_cuda_devices();

// The device code that the library holds: "sm_90a, PTX compute_80".
Result<std::string> cuda_device_code();

// The cuDNN that attention of prompts would go through: "9.19.0". Unsupported says why there is
// none.
Result<std::string> cudnn_version();

}  // namespace abq::runtime
