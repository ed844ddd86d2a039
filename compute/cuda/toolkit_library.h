// Libraries that are opened at run time, so that neither the build nor the installed folder carries
// them.
#pragma once

#include <dlfcn.h>

#include <string_view>

#include "support/status.h"

namespace abq::compute::cuda {

// A library of the CUDA toolkit by its bare name ("cublas", "cublasLt", "cusolver"), as toolkit 13
// or 12 has it, or "cudnn" in version 9, found by the loader or in the usual folders of the
// toolkit. Unsupported names what was looked for.
Result<void*> open_toolkit_library(std::string_view name);

// Sets `function` from the library; false when it has none of that name (dlerror() says so).
template <class Function>
bool find_function(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

}  // namespace abq::compute::cuda
