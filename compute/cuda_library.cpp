#include "compute/cuda_library.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "compute/tensor_device.h"

namespace abq::compute {
namespace {

constexpr const char* kLibrary = "libabq_cuda.so";

// bin/../lib of an installation; runtime/cuda of the build tree, seen from tools/ or tests/a/b/.
std::vector<std::filesystem::path> candidates() {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  folder = folder.parent_path();
  std::vector<std::filesystem::path> result = {folder / "../lib" / kLibrary};
  for (int levels = 0; levels < 3; ++levels) {
    folder = folder.parent_path();
    result.push_back(folder / "runtime/cuda" / kLibrary);
  }
  return result;
}

Result<void*> open_file(const std::filesystem::path& file) {
  if (void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  const char* reason = ::dlerror();
  return unsupported("cuda: {} cannot be loaded: {}", kLibrary,
                     reason != nullptr ? reason : file.c_str());
}

Result<void*> open_library() {
  if (const char* chosen = std::getenv("ABQ_CUDA_LIBRARY"); chosen != nullptr && *chosen != '\0') {
    return open_file(chosen);
  }
  for (const std::filesystem::path& file : candidates()) {
    std::error_code ignored;
    if (std::filesystem::exists(file, ignored)) return open_file(file);
  }
  return unsupported(
      "cuda: this build has no {}; build where nvcc is installed, or name the library in "
      "ABQ_CUDA_LIBRARY",
      kLibrary);
}

}  // namespace

Result<void*> cuda_library_function(const char* name) {
  // Never closed: tensors and devices hold its code.
  static const Result<void*> library = open_library();
  if (!library.ok()) return library.status();
  if (void* function = ::dlsym(*library, name)) return function;
  return unsupported("cuda: {} lacks {}; install binary and library of one build", kLibrary, name);
}

Result<std::unique_ptr<TensorDevice>> create_cuda_tensor_device() {
  using Create = int (*)(const char*, TensorDevice**, char*, size_t);
  ABQ_ASSIGN_OR_RETURN(void* function, cuda_library_function("abq_cuda_create_tensor_device_for"));
  TensorDevice* device = nullptr;
  std::array<char, 4096> text{};
  const int code =
      reinterpret_cast<Create>(function)(ABQ_TENSOR_INTERFACE, &device, text.data(), text.size());
  if (code != 0) return Status(static_cast<StatusCode>(code), text.data());
  return std::unique_ptr<TensorDevice>(device);
}

}  // namespace abq::compute
