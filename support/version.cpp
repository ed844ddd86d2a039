#include "support/version.h"

namespace abq {

std::string_view version() {
  return ABQ_VERSION;
}

}  // namespace abq
