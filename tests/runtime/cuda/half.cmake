abq_add_kernel_test(half
  SOURCES half_test.cpp half_times.cpp
  PARTS abq_runtime_cuda_half abq_runtime_cuda_bench
  DEPENDS abq_quant)
abq_add_test(runtime_cuda_half_host SOURCES half_host_test.cpp)
