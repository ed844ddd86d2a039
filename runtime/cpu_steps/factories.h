// The CPU's step factories, one per operation of plan.proto and one for each pair of steps that it
// runs as one; runtime/cpu_steps/registry.cpp is the table of them. The plan reader has checked
// every index, shape and attribute they use.
#pragma once

#include <memory>

#include "runtime/step.h"

namespace abq::runtime {

Result<std::unique_ptr<PreparedStep>> make_embedding(const LoadedPlan& plan,
                                                     const proto::Step& step);
Result<std::unique_ptr<PreparedStep>> make_rms_norm(const LoadedPlan& plan,
                                                    const proto::Step& step);
Result<std::unique_ptr<PreparedStep>> make_linear(const LoadedPlan& plan, const proto::Step& step);
Result<std::unique_ptr<PreparedStep>> make_rope(const LoadedPlan& plan, const proto::Step& step);
Result<std::unique_ptr<PreparedStep>> make_hadamard(const LoadedPlan& plan,
                                                    const proto::Step& step);
Result<std::unique_ptr<PreparedStep>> make_silu_mul(const LoadedPlan& plan,
                                                    const proto::Step& step);
Result<std::unique_ptr<PreparedStep>> make_add(const LoadedPlan& plan, const proto::Step& step);
Result<std::unique_ptr<PreparedStep>> make_quantize_tokens(const LoadedPlan& plan,
                                                           const proto::Step& step);
// A transform and the quantization that alone reads it.
Result<std::unique_ptr<PreparedStep>> make_hadamard_quantize(const LoadedPlan& plan,
                                                             const proto::Step& step);
// Repacks the weights; Corrupt when they contradict their description.
Result<std::unique_ptr<PreparedStep>> make_bit_linear(const LoadedPlan& plan,
                                                      const proto::Step& step);
Result<std::unique_ptr<PreparedStep>> make_attention(const LoadedPlan& plan,
                                                     const proto::Step& step);

}  // namespace abq::runtime
