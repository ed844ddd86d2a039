abq_add_test(runtime_cuda_tokens_host SOURCES tokens_host_test.cpp
  tokens_hadamard_host_test.cpp DEPENDS abq_quant abq_compute abq_support)
target_include_directories(abq_runtime_cuda_tokens_host_tests SYSTEM PRIVATE
  ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})

abq_add_kernel_test(tokens
  SOURCES tokens_draw_test.cpp tokens_float_test.cpp tokens_hadamard_test.cpp
          tokens_linear_test.cpp tokens_quantize_test.cpp
          tokens_times_test.cpp
  PARTS abq_runtime_cuda_tokens abq_runtime_cuda_bench abq_compute_cuda
  DEPENDS abq_quant abq_compute)
