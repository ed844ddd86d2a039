#include "tools/memory_budget.h"

namespace abq::tools {

passes::StreamOptions stream_options(int64_t budget, const StreamNeeds& needs,
                                     const std::string& folder) {
  using Precision = passes::StreamOptions::Precision;
  const int64_t values = needs.streams * needs.windows * needs.context * needs.hidden;
  const int64_t room = budget / 2;
  if (budget == 0 || 4 * values <= room) return {};
  if (2 * values <= room) return {.precision = Precision::kBFloat16};
  return {.precision = Precision::kBFloat16, .spill_folder = folder};
}

}  // namespace abq::tools
