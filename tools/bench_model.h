// abq bench --model-shape: a whole model of a known shape with random weights, made on the device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/program.h"
#include "support/status.h"

namespace abq::tools {

struct ModelBenchOptions {
  std::string shape;  // "llama-7b", "llama-13b", "llama-70b"
  // Each is compared with fp16 and with W8A8. "SCHEME+rotate" has the transforms of a rotated
  // model.
  std::vector<std::string> schemes = {"w2a8-kv8", "w2ba8-kv8", "w4a8-kv8", "w4a4-kv4"};
  int64_t prompt_tokens = 128;
  int64_t new_tokens = 256;
  int64_t batch = 1;
  int repeats = 3;
  runtime::PrefillAttention prefill_attention = runtime::PrefillAttention::kAuto;
};

// Prints tokens/s, ms per token, memory, and ratios to fp16 (cuBLAS, one float16 product) and W8A8
// in the same runtime. NotFound names the shapes; Unsupported where there is no CUDA device.
Status bench_model(const ModelBenchOptions& options);

}  // namespace abq::tools
