// The doors of single linears, attention and baselines in libabq_cuda.so (runtime/device_linear.cpp
// opens them). Each returns 0, or the StatusCode of what went wrong with its words in `text`, cut
// at `size`; the caller deletes what it gets.
#include <cstdio>
#include <cstring>

#include "runtime/cuda/bench/cuda_baselines.h"
#include "runtime/cuda/bench/cuda_device_attention.h"
#include "runtime/cuda/bench/cuda_device_linear.h"

namespace {

using abq::Result;
using abq::Status;

int refuse(const Status& status, char* text, size_t size) {
  std::snprintf(text, size, "%s", status.message().c_str());
  return static_cast<int>(status.code());
}

Status check_interface(const char* interface) {
  if (std::strcmp(interface, ABQ_RUNTIME_INTERFACE) == 0) return {};
  return abq::unsupported(
      "cuda: libabq_cuda.so is of build {}, its caller of build {}; install binary and library of "
      "one build",
      ABQ_RUNTIME_INTERFACE, interface);
}

// Hands over what was made.
template <class Made, class Interface>
int finish(Result<std::unique_ptr<Made>> made, Interface** out, char* text, size_t size) {
  if (!made.ok()) return refuse(made.status(), text, size);
  *out = std::move(made).value().release();
  return 0;
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int abq_cuda_create_device_linear_for(
    const char* interface, const abq::runtime::StoredWeights* weights, int activation_bits,
    abq::runtime::DeviceLinear** out, char* text, size_t size) {
  if (const Status same = check_interface(interface); !same.ok()) return refuse(same, text, size);
  return finish(abq::runtime::cuda::CudaDeviceLinear::create(*weights, activation_bits), out, text,
                size);
}

__attribute__((visibility("default"))) int abq_cuda_create_device_baselines_for(
    const char* interface, abq::runtime::DeviceBaselines** out, char* text, size_t size) {
  if (const Status same = check_interface(interface); !same.ok()) return refuse(same, text, size);
  return finish(abq::runtime::cuda::CudaBaselines::create(), out, text, size);
}

__attribute__((visibility("default"))) int abq_cuda_create_device_attention_for(
    const char* interface, abq::runtime::DeviceAttention** out, char* text, size_t size) {
  if (const Status same = check_interface(interface); !same.ok()) return refuse(same, text, size);
  return finish(abq::runtime::cuda::CudaDeviceAttention::create(), out, text, size);
}

}  // extern "C"
