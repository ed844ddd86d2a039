// What distribution correction did to the blocks, as people and programs read it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "proto/report.pb.h"

namespace abq::tools {

// Tables of the blocks and of their learned scales; empty for methods that learn nothing.
std::string blocks_text(const proto::Report& report);
// Everything, loss curves included; not finite numbers are null.
nlohmann::ordered_json blocks_json(const proto::Report& report);

// One bar per value from the lowest to the highest ("█▅▃▂▁"), at most `columns` of them (each the
// mean of its neighbours); values that are not finite show as "?".
std::string sparkline(std::span<const double> values, size_t columns);

}  // namespace abq::tools
