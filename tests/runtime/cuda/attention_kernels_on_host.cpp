// The attention kernels and their launches as host code (attention_emulation.h).
// clang-format off: the emulation comes first.
#include "attention_emulation.h"

#include "runtime/cuda/attention/decode_combine.cu"
#include "runtime/cuda/attention/decode_split.cu"
#include "runtime/cuda/attention/expand_cache.cu"
#include "runtime/cuda/attention/prefill.cu"
#include "runtime/cuda/attention/rope.cu"
// clang-format on

#include "attention_cases.h"
#include "attention_kernels_on_host.h"

namespace abq::runtime::cuda {

bool host_kernels_use_clusters = true;

bool launches_overlap() {
  return host_kernels_use_clusters;
}
cudaError_t allow_shared(const void*, unsigned) {
  return cudaSuccess;
}

std::shared_ptr<std::byte> kernel_memory(int64_t bytes) {
  // Aligned as device memory is.
  void* const memory = std::aligned_alloc(256, static_cast<size_t>((bytes + 511) / 256 * 256));
  std::memset(memory, 0xff, static_cast<size_t>(bytes));
  return {static_cast<std::byte*>(memory), [](std::byte* p) { std::free(p); }};
}
void copy_to_kernels(void* to, const void* from, int64_t bytes) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
}
void copy_from_kernels(void* to, const void* from, int64_t bytes) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

}  // namespace abq::runtime::cuda
