#include "runtime/cuda_library.h"

#include <dlfcn.h>

#include <array>
#include <filesystem>
#include <sstream>

namespace abq::runtime {
namespace {

constexpr const char* kLibrary = "libabq_cuda.so";

// Beside the installed binary, or where the build left it.
void* open_library() {
  std::error_code error;
  const std::filesystem::path binary = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return nullptr;
  const std::filesystem::path folder = binary.parent_path();
  for (const auto& candidate :
       {folder / "../lib" / kLibrary, folder / "../runtime/cuda" / kLibrary}) {
    if (void* handle = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
  }
  return nullptr;
}

}  // namespace

Result<std::vector<std::string>> describe_cuda_devices() {
  static void* const library = open_library();
  if (library == nullptr) return unsupported("cuda: this build has no {}", kLibrary);
  using Describe = int (*)(char*, size_t);
  const auto describe = reinterpret_cast<Describe>(::dlsym(library, "abq_cuda_describe_devices"));
  if (describe == nullptr) {
    return unsupported("cuda: {} lacks its entry point; install binary and library of one build",
                       kLibrary);
  }
  std::array<char, 4096> text{};
  const int count = describe(text.data(), text.size());
  if (count < 0) return device_error("cuda: {}", text.data());
  if (count == 0) return device_error("cuda: no device");
  std::vector<std::string> devices;
  std::istringstream lines(text.data());
  for (std::string line; std::getline(lines, line);)
    devices.push_back(line);
  return devices;
}

}  // namespace abq::runtime
