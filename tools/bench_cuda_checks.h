// Results of a device's linear against the reference, before it is timed.
#pragma once

#include "runtime/device_linear.h"
#include "tools/bench_kernels.h"

namespace abq::tools {

// Sets x as the input of `linear` and checks what it made of it: codes equal the reference's. The
// tokens are empty for 16 bits.
Result<quant::QuantizedTokens> set_checked_input(runtime::DeviceLinear& linear,
                                                 MatrixView<const float> x, int activation_bits);

// Sums of codes (where they fit memory) and outputs of `kernel`, on the first and the last token
// and a sample of the rows. Internal names the first that differs.
Status check_kernel(runtime::DeviceLinear& linear, const std::string& kernel,
                    const RandomWeights& weights, MatrixView<const float> x,
                    const quant::QuantizedTokens& tokens);

}  // namespace abq::tools
