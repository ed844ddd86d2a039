# Helpers that give every target of the project the same flags.
add_library(abq_options INTERFACE)
target_include_directories(abq_options INTERFACE "${CMAKE_SOURCE_DIR}")
# -ffp-contract=off: the numbers contract (docs/quantization.md) names each rounding; a compiler that
# fuses a multiply and an add on its own would move codes between builds.
# For the host compiler alone: nvcc has other options (abq_cuda_options).
target_compile_options(abq_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:\
-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wno-sign-conversion;-ffp-contract=off>")
if(ABQ_WERROR)
  target_compile_options(abq_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(ABQ_SANITIZE)
  target_compile_options(abq_options INTERFACE
    -fsanitize=${ABQ_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(abq_options INTERFACE -fsanitize=${ABQ_SANITIZE})
endif()

# abq_add_layer(<name> SOURCES ... DEPENDS ...): the static library abq_<name>.
function(abq_add_layer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(abq_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(abq_${name} PUBLIC abq_options ${ARG_DEPENDS} PRIVATE ${ARG_PRIVATE_DEPENDS})
endfunction()

# Code for Hopper, and an intermediate form that newer and older devices (from sm_80 on) translate at
# load. The CUDA runtime is an archive: a machine needs a driver and no toolkit.
function(abq_cuda_options target)
  set_target_properties(${target} PROPERTIES
    CUDA_STANDARD 17
    CUDA_STANDARD_REQUIRED ON
    CUDA_ARCHITECTURES "80-virtual;90a-real"
    CUDA_RUNTIME_LIBRARY Static
    CUDA_VISIBILITY_PRESET hidden)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-ffp-contract=off>)
  if(ABQ_WERROR)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
  endif()
endfunction()

# Links an executable so that it can move to another machine: symbols of archives hidden (Debian's
# libsentencepiece.so exports a protobuf of its own, which must never meet ours), what is only shared
# found beside the binary. DT_RPATH rather than DT_RUNPATH: it holds for what those libraries need too.
function(abq_link_executable target)
  target_link_options(${target} PRIVATE -Wl,--exclude-libs,ALL -Wl,--disable-new-dtags)
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
endfunction()

# abq_interface_stamp(<variable> <headers>...): sets <variable> to a compile definition of that name
# whose value changes with the version and with any of the headers.
function(abq_interface_stamp variable)
  set(hashes "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
  foreach(header IN LISTS ARGN)
    get_filename_component(file "${CMAKE_CURRENT_SOURCE_DIR}/${header}" ABSOLUTE)
    file(SHA256 "${file}" hash)  # an error where there is no such file
    string(APPEND hashes "${hash}")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
  endforeach()
  string(SHA256 hash "${hashes}")
  string(SUBSTRING "${hash}" 0 16 hash)
  set(${variable} "${variable}=\"${PROJECT_VERSION}-${hash}\"" PARENT_SCOPE)
endfunction()

# abq_add_test(<name> SOURCES ... DEPENDS ...): the doctest executable abq_<name>_tests, each of its
# cases a CTest entry of its own.
function(abq_add_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(abq_${name}_tests ${ARG_SOURCES})
  target_link_libraries(abq_${name}_tests PRIVATE abq_test_common ${ARG_DEPENDS})
  abq_link_executable(abq_${name}_tests)
  # Tests run side by side: a thread that spins at a barrier takes the core from another test.
  doctest_discover_tests(abq_${name}_tests TEST_PREFIX "${name}: "
    PROPERTIES ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()

# abq_add_cuda_test(<name> SOURCES ... DEPENDS ...): the doctest executable abq_<name>_cuda_tests as one
# CTest entry, skipped where no CUDA device can be used.
function(abq_add_cuda_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  set(target abq_${name}_cuda_tests)
  add_executable(${target} ${ARG_SOURCES}
    "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../tests/common/cuda_main.cpp")
  target_link_libraries(${target} PRIVATE abq_test_common abq_compute ${ARG_DEPENDS})
  abq_link_executable(${target})
  if(TARGET abq_cuda)
    add_dependencies(${target} abq_cuda)
  endif()
  add_test(NAME "${name}: on CUDA" COMMAND ${target})
  set_tests_properties("${name}: on CUDA" PROPERTIES SKIP_RETURN_CODE 77 LABELS cuda)
endfunction()

# abq_add_reference_test(<name> SOURCES ... DEPENDS ...): the doctest executable
# abq_<name>_reference_tests as one CTest entry, skipped where the reference models are absent.
function(abq_add_reference_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  set(target abq_${name}_reference_tests)
  add_executable(${target} ${ARG_SOURCES}
    "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../tests/common/reference_main.cpp")
  target_link_libraries(${target} PRIVATE abq_test_common ${ARG_DEPENDS})
  abq_link_executable(${target})
  add_test(NAME "${name}: reference" COMMAND ${target})
  set_tests_properties("${name}: reference" PROPERTIES SKIP_RETURN_CODE 77 LABELS reference ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()
