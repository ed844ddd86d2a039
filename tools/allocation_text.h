// How widths were chosen, as people and programs read it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "proto/report.pb.h"

namespace abq::tools {

// Lines of the summary, and the table of layers and widths with the chosen ones marked; both empty
// where the recipe gave every layer its scheme.
std::string allocation_summary(const proto::Report& report);
std::string allocation_table(const proto::Report& report);
nlohmann::ordered_json allocation_json(const proto::AllocationReport& allocation);

}  // namespace abq::tools
