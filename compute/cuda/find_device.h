// The GPU that everything runs on: the first one that the driver shows.
#pragma once

#include <string>

#include "support/status.h"

namespace abq::compute::cuda {

struct CudaDevice {
  std::string name;     // "cuda-sm_90"
  std::string product;  // "NVIDIA H200"
  std::string driver;   // "13.0"
  int major = 0;        // compute capability
  int minor = 0;
  int multiprocessors = 0;
};

// Makes the first device current. Unsupported is what this machine lacks (no driver, one too old,
// no device, no code for its architecture), Device whatever else goes wrong.
Result<CudaDevice> find_cuda_device();

}  // namespace abq::compute::cuda
