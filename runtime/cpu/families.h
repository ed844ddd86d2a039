// The makers of the kernel families behind QuantizedLinear::prepare. Weights are checked but for
// the codes, which are checked while they are unpacked (Corrupt).
#pragma once

#include <memory>

#include "runtime/cpu/kernels.h"
#include "runtime/cpu/quantized_linear.h"

namespace abq::runtime {

Result<std::unique_ptr<QuantizedLinear>> make_int8_linear(const StoredWeights& stored,
                                                          int activation_bits,
                                                          const Kernels& kernels);
Result<std::unique_ptr<QuantizedLinear>> make_bit_linear(const StoredWeights& stored,
                                                         int activation_bits,
                                                         const Kernels& kernels);
Result<std::unique_ptr<QuantizedLinear>> make_weight_only_linear(const StoredWeights& stored,
                                                                 const Kernels& kernels);

}  // namespace abq::runtime
