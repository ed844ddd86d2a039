// The report's part on chosen widths, for report_convert.cpp.
#pragma once

#include "proto/report.pb.h"
#include "quant/report.h"

namespace abq::backend {

void to_proto(const quant::AllocationReport& allocation, proto::AllocationReport* out);
quant::AllocationReport from_proto(const proto::AllocationReport& allocation);

}  // namespace abq::backend
