// Models run by the IR interpreter: what an artifact's numbers are judged by.
#pragma once

#include <span>
#include <string>

#include "compute/device.h"
#include "ir/graph.h"

namespace abq::test {

// The checkpoint after the uncalibrated pipeline of `scheme`, still in memory.
ir::Module quantized_module(const std::string& model_dir, const std::string& scheme);

// Perplexity of the first `windows` windows in the convention gptq-<context>.
double interpreter_perplexity(const ir::Module& module, std::span<const int32_t> tokens,
                              int64_t context, int64_t windows, const compute::Device& device);

}  // namespace abq::test
