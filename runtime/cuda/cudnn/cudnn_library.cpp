#include "runtime/cuda/cudnn/cudnn_library.h"

#include <dlfcn.h>

#include <array>
#include <string>

#include "compute/cuda/toolkit_library.h"

namespace abq::runtime::cuda {
namespace {

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

Result<CudnnFunctions> load() {
  ABQ_ASSIGN_OR_RETURN(void* library, compute::cuda::open_toolkit_library("cudnn"));
  CudnnFunctions f;
  const bool complete = find(library, "cudnnGetVersion", f.version) &&
                        find(library, "cudnnGetErrorString", f.error_name) &&
                        find(library, "cudnnGetLastErrorString", f.last_error) &&
                        find(library, "cudnnCreate", f.create) &&
                        find(library, "cudnnDestroy", f.destroy) &&
                        find(library, "cudnnSetStream", f.set_stream) &&
                        find(library, "cudnnBackendCreateDescriptor", f.create_descriptor) &&
                        find(library, "cudnnBackendDestroyDescriptor", f.destroy_descriptor) &&
                        find(library, "cudnnBackendSetAttribute", f.set_attribute) &&
                        find(library, "cudnnBackendGetAttribute", f.get_attribute) &&
                        find(library, "cudnnBackendFinalize", f.finalize) &&
                        find(library, "cudnnBackendExecute", f.execute);
  if (!complete) return unsupported("cuda: cuDNN lacks a function; install version 9.10 or newer");
  if (const size_t version = f.version(); version < kOldestCudnn) {
    return unsupported("cuda: cuDNN {} is too old; install version 9.10 or newer",
                       cudnn_version_text(version));
  }
  return f;
}

}  // namespace

Result<const CudnnFunctions*> cudnn_functions() {
  static const Result<CudnnFunctions> functions = load();
  if (!functions.ok()) return functions.status();
  return &functions.value();
}

std::string cudnn_version_text(size_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

Status cudnn_failure(const CudnnFunctions& functions, cudnnStatus_t status, std::string_view what) {
  std::array<char, 512> reason{};
  functions.last_error(reason.data(), reason.size());
  const StatusCode code = CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED
                              ? StatusCode::kUnsupported
                              : StatusCode::kDevice;
  return {code, fmt::format("cudnn: {}: {} ({})", what, functions.error_name(status),
                            std::string_view(reason.data()))};
}

}  // namespace abq::runtime::cuda
