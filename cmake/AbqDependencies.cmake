# Every third-party dependency is found here, once. All are Debian packages (scripts/setup.sh).
#
# A relocatable install wants few shared objects: protobuf, PCRE2, xxHash and the OpenMP runtime are
# linked as archives; fmt, spdlog and sentencepiece, which Debian ships only as shared objects,
# are bundled beside the binary by `cmake --install`.
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(fmt 9 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
set(Protobuf_USE_STATIC_LIBS ON)
find_package(Protobuf REQUIRED)

function(abq_find_archive target header archive)
  find_path(${target}_INCLUDE ${header} REQUIRED)
  find_library(${target}_ARCHIVE NAMES ${archive} REQUIRED)
  add_library(abq::${target} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(abq::${target} PROPERTIES
    IMPORTED_LOCATION "${${target}_ARCHIVE}"
    INTERFACE_INCLUDE_DIRECTORIES "${${target}_INCLUDE}")
endfunction()

abq_find_archive(xxhash xxhash.h libxxhash.a)
abq_find_archive(pcre2 pcre2.h libpcre2-8.a)
abq_find_archive(sentencepiece sentencepiece_processor.h libsentencepiece.so)
target_compile_definitions(abq::pcre2 INTERFACE PCRE2_CODE_UNIT_WIDTH=8 PCRE2_STATIC)
if(ABQ_TESTS)
  find_package(doctest 2.4 REQUIRED)
endif()

# CUDA is optional: without nvcc everything but the device `cuda` is built.
set(ABQ_CUDA_FOUND OFF)
if(ABQ_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(ABQ_CUDA_FOUND ON)
  endif()
endif()
message(STATUS "CUDA device library: ${ABQ_CUDA_FOUND}")
