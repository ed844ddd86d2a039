#include "runtime/cpu/kernels.h"

#include "support/cpu_features.h"

namespace abq::runtime {

const Kernels& kernels_for(CpuIsa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case CpuIsa::kAmx:
      return amx_kernels();
    case CpuIsa::kAvx512:
      return avx512_kernels();
    case CpuIsa::kAvx2:
      return avx2_kernels();
    case CpuIsa::kBaseline:
      break;
  }
#else
  static_cast<void>(isa);
#endif
  return baseline_kernels();
}

}  // namespace abq::runtime
