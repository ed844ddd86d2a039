// Main of the tests that launch kernels themselves: where there is no usable CUDA device the
// program says why and returns 77, which CTest shows as "skipped"; with ABQ_REQUIRE_CUDA=1 that is
// a failure.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    const char* const required = std::getenv("ABQ_REQUIRE_CUDA");
    const bool must = required != nullptr && std::string_view(required) == "1";
    std::printf("%s: no CUDA device: %s\n", must ? "failed" : "skipped", cudaGetErrorString(error));
    return must ? 1 : kSkipped;
  }
  return doctest::Context(argc, argv).run();
}
