// The version of this build, as CMake's project() has it.
#pragma once

#include <string_view>

namespace abq {

std::string_view version();

}  // namespace abq
