// What a learned number depends on, and in which of it two compilations differ.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "frontend/frontend.h"
#include "passes/stream.h"
#include "proto/work.pb.h"
#include "quant/recipe.h"

namespace abq::tools {

// Reads every weight of the checkpoint once. `device` names what the numbers are learned on.
proto::Fingerprint make_fingerprint(const frontend::Checkpoint& checkpoint,
                                    const quant::Recipe& recipe,
                                    const std::vector<std::vector<int32_t>>& calibration_windows,
                                    std::string_view device,
                                    passes::StreamOptions::Precision precision);

// A line for each difference, e.g. "recipe: correction.epochs is 20, was 10" or "model.safetensors:
// other contents"; empty when equal.
std::vector<std::string> differences(const proto::Fingerprint& now, const proto::Fingerprint& then);

// 32 hex digits that stand for all fields.
std::string digest(const proto::Fingerprint& fingerprint);

}  // namespace abq::tools
