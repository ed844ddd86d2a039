// The factories of all passes, one per file; registry.cpp is their only user.
#pragma once

#include <memory>

#include "passes/pass.h"

namespace abq::passes {

std::unique_ptr<Pass> create_assign_schemes();
std::unique_ptr<Pass> create_balance_bits();
std::unique_ptr<Pass> create_calibrate();
std::unique_ptr<Pass> create_correct_distribution();
std::unique_ptr<Pass> create_distill();
std::unique_ptr<Pass> create_fold_norms();
std::unique_ptr<Pass> create_gptq();
std::unique_ptr<Pass> create_learn_rounding();
std::unique_ptr<Pass> create_measure_outputs();
std::unique_ptr<Pass> create_pack_weights();
std::unique_ptr<Pass> create_quantize();
std::unique_ptr<Pass> create_replay_quantized();
std::unique_ptr<Pass> create_rotate();
std::unique_ptr<Pass> create_smooth();

}  // namespace abq::passes
