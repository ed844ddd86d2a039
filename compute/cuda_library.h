// libabq_cuda.so, opened at run time: a build without CUDA, or a machine without a driver, does
// everything on the CPU. The one place that knows where the library lies.
#pragma once

#include "support/status.h"

namespace abq::compute {

// The library's function of that name. Opens the library the first time: the file that the
// environment variable ABQ_CUDA_LIBRARY names, or else the one beside the installed binary or of
// the build tree that the binary lies in. Unsupported says why there is none.
Result<void*> cuda_library_function(const char* name);

}  // namespace abq::compute
