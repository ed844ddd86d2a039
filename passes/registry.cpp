// Every pass there is: name, help, factory. A new pass is one file and one row here.
#include <fmt/ranges.h>

#include "passes/pass.h"
#include "passes/passes.h"

namespace abq::passes {

const std::vector<PassInfo>& pass_registry() {
  static const std::vector<PassInfo> registry = {
      {"assign-schemes", "gives every block linear and attention its widths from the recipe",
       create_assign_schemes},
      {"balance-bits", "turns requests for bit balance into 2^bits + 1 weight levels",
       create_balance_bits},
      {"calibrate", "runs the float block on the calibration windows, collects input statistics",
       create_calibrate},
      {"correct-distribution",
       "learns channel scales, clip factors and compensation vectors block by block (ABQ-LLM)",
       create_correct_distribution},
      {"distill", "fits step sizes and norm weights of the whole model to the float model's logits",
       create_distill},
      {"fold-norms", "folds norm weights into the linears that read them", create_fold_norms},
      {"gptq", "chooses the codes of linears so that errors cancel on their inputs (GPTQ)",
       create_gptq},
      {"learn-rounding",
       "moves codes, step sizes and norm weights by gradient, block by block, behind gptq",
       create_learn_rounding},
      {"measure-outputs", "compares each quantized linear's output with the float one",
       create_measure_outputs},
      {"pack-weights", "packs weight codes into the canonical dense layout", create_pack_weights},
      {"quantize", "replaces linear by quantize_tokens and bit_linear", create_quantize},
      {"replay-quantized", "runs the quantized block to make the next block's quantized stream",
       create_replay_quantized},
      {"rotate", "turns the residual stream, heads and the inputs of down projections (QuaRot)",
       create_rotate},
      {"smooth", "moves activation outliers into the weights (SmoothQuant)", create_smooth},
  };
  return registry;
}

Result<std::unique_ptr<Pass>> create_pass(std::string_view name) {
  std::vector<std::string_view> names;
  for (const PassInfo& info : pass_registry()) {
    if (info.name == name) return info.create();
    names.push_back(info.name);
  }
  return not_found("pass '{}' does not exist; there are {}", name, fmt::join(names, ", "));
}

}  // namespace abq::passes
