// The one logger of the process (stderr); results go to stdout, never through it.
#pragma once

#include <spdlog/spdlog.h>

namespace abq {

// Sets the pattern and level ("trace", "debug", "info", "warn", "error", "off") of the logger.
void init_logging(std::string_view level);

}  // namespace abq
