// cuDNN, opened at run time: neither the build nor the installed folder carries it.
#pragma once

#include <cudnn_graph.h>

#include "support/status.h"

namespace abq::runtime::cuda {

// The functions of cuDNN's graph interface.
struct CudnnFunctions {
  decltype(&cudnnGetVersion) version = nullptr;
  decltype(&cudnnGetErrorString) error_name = nullptr;
  decltype(&cudnnGetLastErrorString) last_error = nullptr;
  decltype(&cudnnCreate) create = nullptr;
  decltype(&cudnnDestroy) destroy = nullptr;
  decltype(&cudnnSetStream) set_stream = nullptr;
  decltype(&cudnnBackendCreateDescriptor) create_descriptor = nullptr;
  decltype(&cudnnBackendDestroyDescriptor) destroy_descriptor = nullptr;
  decltype(&cudnnBackendSetAttribute) set_attribute = nullptr;
  decltype(&cudnnBackendGetAttribute) get_attribute = nullptr;
  decltype(&cudnnBackendFinalize) finalize = nullptr;
  decltype(&cudnnBackendExecute) execute = nullptr;
};

// The oldest cuDNN whose attention is used: from 9.10 on masked scores are -infinity.
inline constexpr size_t kOldestCudnn = 91000;

// The functions of libcudnn.so.9, found by the loader or in the usual folders of the CUDA toolkit.
// Unsupported names what was looked for, or the version that is too old.
Result<const CudnnFunctions*> cudnn_functions();

// "9.19.0"
std::string cudnn_version_text(size_t version);

// "cudnn: <what>: <name> (<reason>)": Unsupported where cuDNN says that it does not support what it
// was asked, else Device.
Status cudnn_failure(const CudnnFunctions& functions, cudnnStatus_t status, std::string_view what);

}  // namespace abq::runtime::cuda
