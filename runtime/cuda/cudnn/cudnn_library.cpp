#include "runtime/cuda/cudnn/cudnn_library.h"

#include <array>
#include <string>

#include "compute/cuda/toolkit_library.h"

namespace abq::runtime::cuda {
namespace {

using compute::cuda::find_function;

Result<CudnnFunctions> load() {
  ABQ_ASSIGN_OR_RETURN(void* library, compute::cuda::open_toolkit_library("cudnn"));
  CudnnFunctions f;
  const bool complete =
      find_function(library, "cudnnGetVersion", f.version) &&
      find_function(library, "cudnnGetErrorString", f.error_name) &&
      find_function(library, "cudnnGetLastErrorString", f.last_error) &&
      find_function(library, "cudnnCreate", f.create) &&
      find_function(library, "cudnnDestroy", f.destroy) &&
      find_function(library, "cudnnSetStream", f.set_stream) &&
      find_function(library, "cudnnBackendCreateDescriptor", f.create_descriptor) &&
      find_function(library, "cudnnBackendDestroyDescriptor", f.destroy_descriptor) &&
      find_function(library, "cudnnBackendSetAttribute", f.set_attribute) &&
      find_function(library, "cudnnBackendGetAttribute", f.get_attribute) &&
      find_function(library, "cudnnBackendFinalize", f.finalize) &&
      find_function(library, "cudnnBackendExecute", f.execute);
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
