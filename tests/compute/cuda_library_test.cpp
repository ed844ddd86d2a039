// The door of libabq_cuda.so: what it refuses before it asks for a driver, so on any machine for
// which it was built.
#include "compute/cuda_library.h"

#include <doctest/doctest.h>

#include <array>
#include <string>

#include "compute/tensor_device.h"

namespace abq::compute {
namespace {

TEST_CASE("the CUDA library refuses a binary of another build") {
  const auto function = cuda_library_function("abq_cuda_create_tensor_device_for");
  if (!function.ok()) {
    MESSAGE(function.status().to_string());
    return;
  }
  using Create = int (*)(const char*, TensorDevice**, char*, size_t);
  TensorDevice* device = nullptr;
  std::array<char, 1000> text{};
  const int code =
      reinterpret_cast<Create>(*function)("0.0.0-another", &device, text.data(), text.size());
  const std::string message = text.data();
  CAPTURE(message);
  CHECK(code == static_cast<int>(StatusCode::kUnsupported));
  CHECK(device == nullptr);
  CHECK(message.find("build 0.0.0-another; install binary and library of one build") !=
        std::string::npos);
  // Its own build is no reason.
  const auto own = create_cuda_tensor_device();
  if (!own.ok()) CHECK(own.status().message().find("of one build") == std::string::npos);
}

TEST_CASE("a function that the CUDA library lacks is unsupported") {
  const auto function = cuda_library_function("abq_cuda_no_such_function");
  CHECK(!function.ok());
  CHECK(function.status().code() == StatusCode::kUnsupported);
}

}  // namespace
}  // namespace abq::compute
