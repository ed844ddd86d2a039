// --mem-budget: how the hidden states of all calibration windows are kept.
#pragma once

#include <cstdint>
#include <string>

#include "passes/stream.h"

namespace abq::tools {

// A stream holds windows x context x hidden values. Method abq keeps 4 of them at a time: inputs
// and outputs of a block, float and quantized; so does gptq, of inputs, outputs and 2 of values
// within a block; the other calibrated methods keep 2.
struct StreamNeeds {
  int64_t streams = 4;
  int64_t windows = 0;
  int64_t context = 0;
  int64_t hidden = 0;
};

// Half of the budget is for streams (the other half is for the block and its gradients): float32 in
// memory where they fit, else bf16 in memory, else bf16 in files in `folder`. A budget of 0 bytes
// is none: float32 in memory.
passes::StreamOptions stream_options(int64_t budget, const StreamNeeds& needs,
                                     const std::string& folder);

}  // namespace abq::tools
