abq_add_kernel_test(wgmma
  SOURCES wgmma_cases.cpp wgmma_test.cpp wgmma_times.cpp
  PARTS abq_runtime_cuda_wgmma
  DEPENDS abq_quant)
target_link_libraries(abq_runtime_cuda_wgmma_tests PRIVATE ${CMAKE_DL_LIBS})
abq_add_test(runtime_cuda_wgmma_host
  SOURCES wgmma_cases.cpp wgmma_host_test.cpp
  DEPENDS abq_quant)
