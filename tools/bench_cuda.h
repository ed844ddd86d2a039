// bench --kernels on a GPU: linears of a 7B model against the read of their bytes and the vendor's
// products, all measured in one run.
#pragma once

#include "tools/bench_kernels.h"

namespace abq::tools {

Status bench_kernels_on_cuda(const KernelBenchOptions& options);

}  // namespace abq::tools
