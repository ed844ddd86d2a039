// What the functions of CudaTensorDevice ask of their arguments.
#pragma once

#include "compute/tensor.h"

namespace abq::compute::cuda {

inline float* floats(const Tensor& x) {
  return x.as<float>();
}

inline void check_same(const Tensor& a, const Tensor& b) {
  ABQ_CHECK(a.rows() == b.rows() && a.cols() == b.cols());
}

}  // namespace abq::compute::cuda
