// The quality report as people and programs read it.
#pragma once

#include <string>

#include "proto/plan.pb.h"

namespace abq::tools {

// Model, sizes and the layers in one table, on stdout.
void print_summary(const proto::Plan& plan, int64_t file_size);
void print_layers(const proto::Plan& plan);
std::string report_json(const proto::Plan& plan, int64_t file_size);

}  // namespace abq::tools
