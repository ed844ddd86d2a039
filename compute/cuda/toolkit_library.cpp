#include "compute/cuda/toolkit_library.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace abq::compute::cuda {
namespace {

// Versions in the names of a library's files in toolkits 13 and 12; that of our CUDA runtime first:
// a driver that runs this library runs that one too. cuDNN 9 goes with both.
std::vector<int> versions_of(std::string_view name) {
  if (name == "cudnn") return {9};
  const int newer = name == "cusolver" ? 12 : 13;
  const int older = newer - 1;
  return CUDART_VERSION >= 13000 ? std::vector<int>{newer, older} : std::vector<int>{older, newer};
}
constexpr const char* kToolkit = "/usr/local/cuda";

// "" stands for the loader's own search (LD_LIBRARY_PATH, the system's cache).
std::vector<std::string> folders() {
  std::vector<std::string> result = {""};
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const char* toolkit = std::getenv(variable)) {
      result.push_back(std::string(toolkit) + "/lib64/");
      result.push_back(std::string(toolkit) + "/lib/");
    }
  }
  result.push_back(std::string(kToolkit) + "/lib64/");
  result.push_back(std::string(kToolkit) + "/lib/");
  return result;
}

}  // namespace

Result<void*> open_toolkit_library(std::string_view name) {
  std::string reason;
  std::string files;
  for (const int version : versions_of(name)) {
    files += fmt::format("{}lib{}.so.{}", files.empty() ? "" : " and ", name, version);
    for (const std::string& folder : folders()) {
      const std::string file = fmt::format("{}lib{}.so.{}", folder, name, version);
      if (void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
      // The loader's own answer is the one worth reading: the folders are guesses.
      if (const char* error = ::dlerror(); folder.empty() && error != nullptr && reason.empty()) {
        reason = error;
      }
    }
  }
  return unsupported(
      "cuda: lib{} is missing: looked for {} on the loader's path and in {}/lib64 ({}); install it "
      "or name its folder in LD_LIBRARY_PATH",
      name, files, kToolkit, reason);
}

}  // namespace abq::compute::cuda
