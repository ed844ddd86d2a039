// What distribution correction or learned rounding did to the blocks, and distillation to all, as
// people and programs read it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "proto/report.pb.h"

namespace abq::tools {

// Tables of the blocks and of their learned scales, a line of distillation; empty for methods that
// learn nothing.
std::string blocks_text(const proto::Report& report);
// Everything, loss curves included; not finite numbers are null.
nlohmann::ordered_json blocks_json(const proto::Report& report);
// Null where nothing was distilled.
nlohmann::ordered_json distillation_json(const proto::Report& report);

// One bar per value from the lowest to the highest ("█▅▃▂▁"), at most `columns` of them (each the
// mean of its neighbours); values that are not finite show as "?".
std::string sparkline(std::span<const double> values, size_t columns);

}  // namespace abq::tools
