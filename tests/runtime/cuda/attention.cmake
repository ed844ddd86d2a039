set(attention_cases attention_cases.cpp attention_reference.cpp attention_rope_case.cpp)
abq_add_kernel_test(attention SOURCES attention_test.cpp attention_times.cpp ${attention_cases}
  PARTS abq_runtime_cuda_attention DEPENDS abq_quant)

# Kernels as host code: their sources are compiled by the host's compiler.
abq_add_test(runtime_cuda_attention_host SOURCES attention_host_test.cpp
  attention_kernels_on_host.cpp ${attention_cases}
  "${PROJECT_SOURCE_DIR}/runtime/cuda/attention/attention.cpp"
  "${PROJECT_SOURCE_DIR}/runtime/cuda/cuda_status.cpp"
  DEPENDS abq_quant abq_support CUDA::cudart_static)
target_include_directories(abq_runtime_cuda_attention_host_tests SYSTEM PRIVATE
  ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
# The kernels' loops are written for nvcc.
set_source_files_properties(attention_kernels_on_host.cpp PROPERTIES COMPILE_OPTIONS
  "-Wno-unknown-pragmas;-Wno-conversion;-Wno-shadow;-Wno-clobbered;-fno-strict-aliasing;-O2")
