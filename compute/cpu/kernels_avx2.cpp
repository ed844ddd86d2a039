// The kernels compiled for AVX2, FMA and F16C (flags in CMakeLists.txt).
#define ABQ_ISA_NAMESPACE avx2
#include "compute/cpu/kernels.h"

// After kernels.h, whose types it uses.
#include "compute/cpu/isa/tensor_kernels.h"

namespace abq::compute::avx2 {

const Kernels kKernels = {kMicroRows,    kMicroCols, gemm_tile, gemv,           rms_norm,
                          silu_mul,      add,        rope,      hadamard,       attention_block,
                          attention_row, to_float,   sum,       &kTensorKernels};

}  // namespace abq::compute::avx2
