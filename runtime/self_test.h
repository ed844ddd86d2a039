// The sample that an artifact carries to prove itself on the machine that runs it.
#pragma once

#include <span>

#include "runtime/engine.h"

namespace abq::runtime {

// Runs `tokens` and records the highest logits of the last position.
Result<proto::SelfTest> make_self_test(const Engine& engine, std::span<const int32_t> tokens);

// Runs the artifact's sample again. Internal when the logits differ by more than the tolerance
// (rounding in another order moves codes of quantized activations by one); NotFound when it carries
// no sample.
Status run_self_test(const Engine& engine);

}  // namespace abq::runtime
