// Speed of single linear layers against a memory read and the float32 layers, measured in one run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "support/status.h"

namespace abq::tools {

struct KernelBenchOptions {
  std::vector<std::string> schemes = {"w1a8", "w1ba8", "w2a8", "w2ba8", "w3a8",  "w4a8",
                                      "w4a4", "w6a6",  "w8a8", "w2a16", "w4a16", "w4a8-g128"};
  std::vector<int64_t> tokens = {1, 512};
  int64_t n = 4096;
  int64_t k = 14336;
  int64_t rotate_mib = 1024;
};

Status bench_kernels(const KernelBenchOptions& options);

}  // namespace abq::tools
