#include "support/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <string>

namespace abq {

void init_logging(std::string_view level) {
  auto logger = spdlog::get("abq");
  if (!logger) logger = spdlog::stderr_color_mt("abq");
  logger->set_pattern("%^%l%$: %v");
  logger->set_level(spdlog::level::from_str(std::string(level)));
  spdlog::set_default_logger(logger);
}

}  // namespace abq
