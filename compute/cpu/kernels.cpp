#include "compute/cpu/kernels.h"

namespace abq::compute {

const Kernels* kernels_for(CpuIsa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case CpuIsa::kAvx2:
      return &avx2::kKernels;
    case CpuIsa::kAvx512:
    case CpuIsa::kAmx:
      return &avx512::kKernels;
#endif
    case CpuIsa::kBaseline:
      return &baseline::kKernels;
    default:
      return nullptr;
  }
}

}  // namespace abq::compute
