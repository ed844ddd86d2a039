// The recipe's part for learned methods, for recipe_convert.cpp.
#pragma once

#include "proto/recipe.pb.h"
#include "quant/recipe.h"
#include "support/status.h"

namespace abq::backend {

void to_proto(const quant::CorrectionSettings& settings, proto::CorrectionSettings* out);
// InvalidArgument names the field and what it may be.
Result<quant::CorrectionSettings> from_proto(const proto::CorrectionSettings& settings);

void to_proto(const quant::DistillationSettings& settings, proto::DistillationSettings* out);
// InvalidArgument as above.
Result<quant::DistillationSettings> from_proto(const proto::DistillationSettings& settings);

}  // namespace abq::backend
