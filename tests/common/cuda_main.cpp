// Main of the tests that need a CUDA device: where there is no usable one the program says why and
// returns 77, which CTest shows as "skipped". With ABQ_REQUIRE_CUDA=1 in the environment, on a
// machine that must have one, that is a failure.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "compute/tensor_device.h"

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  {
    const auto device = abq::compute::create_cuda_tensor_device();
    if (!device.ok()) {
      const char* const required = std::getenv("ABQ_REQUIRE_CUDA");
      const bool may_skip = required == nullptr || std::string_view(required) != "1";
      const bool absent = may_skip && device.status().code() == abq::StatusCode::kUnsupported;
      std::printf("%s: %s\n", absent ? "skipped" : "failed", device.status().to_string().c_str());
      return absent ? kSkipped : 1;
    }
    std::printf("device: %s\n", std::string((*device)->name()).c_str());
  }
  return doctest::Context(argc, argv).run();
}
