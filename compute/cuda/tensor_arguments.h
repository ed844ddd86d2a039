// How the functions of CudaTensorDevice read their arguments.
#pragma once

#include "compute/tensor.h"

namespace abq::compute::cuda {

inline float* floats(const Tensor& x) {
  return x.as<float>();
}

}  // namespace abq::compute::cuda
