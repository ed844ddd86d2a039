set(attention_cases attention_cases.cpp attention_fused_cases.cpp attention_reference.cpp
  attention_rope_case.cpp)
abq_add_kernel_test(attention
  SOURCES attention_test.cpp attention_fused_test.cpp attention_times.cpp ${attention_cases}
    "${PROJECT_SOURCE_DIR}/compute/cuda/toolkit_library.cpp"
  PARTS abq_runtime_cuda_attention abq_runtime_cuda_cudnn DEPENDS abq_quant)

# Kernels as host code: their sources are compiled by the host's compiler.
abq_add_test(runtime_cuda_attention_host SOURCES attention_host_test.cpp prefill_choice_test.cpp
  attention_fused_on_host.cpp attention_kernels_on_host.cpp ${attention_cases}
  "${PROJECT_SOURCE_DIR}/runtime/cuda/attention/attention.cpp"
  "${PROJECT_SOURCE_DIR}/runtime/cuda/attention/fused_prefill.cpp"
  "${PROJECT_SOURCE_DIR}/runtime/cuda/cuda_status.cpp"
  "${PROJECT_SOURCE_DIR}/runtime/cuda/engine/prefill_choice.cpp"
  "${PROJECT_SOURCE_DIR}/compute/cuda/toolkit_library.cpp"
  DEPENDS abq_quant abq_support CUDA::cudart_static abq_runtime_cuda_cudnn)
target_include_directories(abq_runtime_cuda_attention_host_tests SYSTEM PRIVATE
  ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
if(ABQ_CUDNN_INCLUDE)
  target_sources(abq_runtime_cuda_attention_host_tests PRIVATE cudnn_graph_test.cpp)
  target_include_directories(abq_runtime_cuda_attention_host_tests SYSTEM PRIVATE
    "${ABQ_CUDNN_INCLUDE}")
endif()
# The kernels' loops are written for nvcc.
set_source_files_properties(attention_kernels_on_host.cpp PROPERTIES COMPILE_OPTIONS
  "-Wno-unknown-pragmas;-Wno-conversion;-Wno-shadow;-Wno-clobbered;-fno-strict-aliasing;-O2")
