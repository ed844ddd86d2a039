abq_add_test(runtime_cuda_linear_host SOURCES linear_host_test.cpp DEPENDS abq_quant)
abq_add_kernel_test(linear
  SOURCES linear_test.cpp linear_times.cpp
  PARTS abq_runtime_cuda_linear abq_runtime_cuda_half abq_runtime_cuda_wgmma
        abq_runtime_cuda_bench
  DEPENDS abq_quant)
