# What fuses into which launch: host code alone.
abq_add_test(runtime_cuda_engine_host
  SOURCES
    launch_list_test.cpp
    "${CMAKE_SOURCE_DIR}/runtime/cuda/engine/launch_builder.cpp"
    "${CMAKE_SOURCE_DIR}/runtime/cuda/engine/launch_builder_linears.cpp"
    "${CMAKE_SOURCE_DIR}/runtime/cuda/engine/launch_list.cpp"
    "${CMAKE_SOURCE_DIR}/runtime/cuda/engine/memory_plan.cpp"
  DEPENDS abq_test_artifacts)
# Whole models on the device, through the library.
abq_add_cuda_test(runtime SOURCES device_engine_test.cpp DEPENDS abq_test_artifacts)
target_link_libraries(abq_runtime_cuda_tests PRIVATE nlohmann_json::nlohmann_json)
