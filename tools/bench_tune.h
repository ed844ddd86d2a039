// abq bench MODEL --tune: times the kernels of an artifact's linears on this GPU.
#pragma once

#include <string>

#include "support/status.h"

namespace abq::tools {

struct TuneOptions {
  std::string artifact;
  std::string output;  // a copy of the artifact that carries what was measured; empty = print only
  bool force = false;
};

// Prints which kernel is fastest for how many tokens. Unsupported where there is no CUDA device.
Status bench_tune(const TuneOptions& options);

}  // namespace abq::tools
