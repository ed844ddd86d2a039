// A Hadamard matrix as kernels take it, its signs on the device.
#pragma once

#include "compute/hadamard.h"
#include "runtime/cuda/tokens/hadamard_plan.h"
#include "tokens_test_support.h"

namespace abq::runtime::cuda {

struct DeviceMatrix {
  DeviceArray<float> signs;
  DeviceArray<uint32_t> packed;
  HadamardMatrix matrix;

  explicit DeviceMatrix(int64_t size) {
    const compute::HadamardFactors& factors = compute::hadamard_factors(size);
    matrix.order = static_cast<int>(factors.order);
    matrix.length = static_cast<int>(factors.length);
    matrix.scale = factors.scale();
    if (factors.order == 1) return;
    signs = on_device(hadamard_signs(factors));
    matrix.signs = signs.data();
    packed = on_device(packed_hadamard_signs(factors));
    matrix.packed = packed.data();
  }
};

}  // namespace abq::runtime::cuda
