// Speed of single linear layers against a memory read and the layers that are not quantized,
// measured in one run, on the CPU or on a GPU (bench_cuda.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quant/affine.h"
#include "runtime/stored_weights.h"
#include "support/status.h"

namespace abq::tools {

struct KernelBenchOptions {
  std::vector<std::string> schemes = {"w1a8", "w1ba8", "w2a8", "w2ba8", "w3a8",  "w4a8",
                                      "w4a4", "w6a6",  "w8a8", "w2a16", "w4a16", "w4a8-g128"};
  std::string device = "auto";
  std::vector<int64_t> tokens;  // values of M; none: 1,512 on the CPU, 1,8,2048 on a GPU
  // Either one unset: 4096 and 14336 on the CPU, the shapes of a 7B model on a GPU.
  std::optional<int64_t> n;
  std::optional<int64_t> k;
  int64_t rotate_mib = 1024;  // CPU
  bool every_kernel = false;  // GPU
};

// On the device of the options; `auto` is the GPU where one works.
Status bench_kernels(const KernelBenchOptions& options);

// Random codes in the artifact's own layout: what every device prepares its weights from.
struct RandomWeights {
  quant::QuantizedWeights codes;
  std::vector<std::byte> packed;
  runtime::StoredWeights stored;
};
RandomWeights random_weights(const quant::WeightSpec& spec, int64_t n, int64_t k);
std::vector<float> random_floats(int64_t count, uint64_t seed);  // in [-1, 1)
// The scheme, or InvalidArgument when it has no quantized weights or does not fit K.
Result<quant::Scheme> parse_kernel_scheme(const std::string& text, int64_t k);

}  // namespace abq::tools
