// For tests built by abq_add_reference_test.
#pragma once

#include <filesystem>

namespace abq::test {

// The folder with models/ and text/: the environment's ABQ_REFERENCE_DIR, else the one that the
// build was configured with.
std::filesystem::path reference_dir();

}  // namespace abq::test
