// Passes on textual IR: what `abq opt` and the golden tests run.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "passes/pass.h"

namespace abq::passes {

// Parses `text` (`name` stands for it in messages), runs the passes on the module and all its
// blocks and prints the result to `*out`, followed by what the passes left in the context, as
// comments:
//   ; scheme layers.0.mlp.down: w2ba8
//   ; note: ...
// `quantize`, `correct-distribution` and `balance-bits` get the passes that give layers their
// schemes in front of them when the list leaves them out. `calibrate` gets synthetic data by
// recipe.calibration and recipe.seed when the context has none.
Status run_passes_on_text(std::string_view text, std::string_view name,
                          const std::vector<std::string>& pass_names, PassContext& context,
                          std::string* out, const PassManager::Options& options = {});

// Random calibration data that depends on the seed alone: with an embed region, windows of token
// ids below the embedding table's rows; without one, a float stream of standard normal numbers
// shaped like the first block's argument. InvalidArgument when the module has neither.
Status use_synthetic_calibration(const ir::Module& module,
                                 const quant::CalibrationSettings& settings, uint64_t seed,
                                 PassContext& context);

}  // namespace abq::passes
