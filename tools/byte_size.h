// Sizes as people write them.
#pragma once

#include <cstdint>
#include <string_view>

#include "support/status.h"

namespace abq::tools {

// "1.5GiB", "1500MB", "300k", "123456": a positive number, and K, M, G or T of bytes in any case,
// thousands as `MB` and `M`, 1024s as `MiB`. Rounded down to whole bytes. InvalidArgument for
// anything else, and above 2^63 - 1.
Result<uint64_t> parse_byte_size(std::string_view text);

}  // namespace abq::tools
