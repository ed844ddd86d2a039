// The quantized block while codes are learned: every quantized weight as
//
//   step * ratio * clamp(round(offset), -zero, levels - 1 - zero)
//
// with offsets (codes minus zero points, before they are rounded), ratios of step sizes to their
// start, and norm weights as parameters. Offsets and steps start at what a pass chose (GPTQ).
// Learned rounding straight through, as in the block training of EfficientQAT (arXiv 2407.11062).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "passes/correction/learner.h"
#include "passes/pass.h"

namespace abq::passes {

class RoundingStudent : public BlockLearner {
 public:
  // Which of the three are parameters; the others stay what they are.
  struct Options {
    bool codes = true;
    bool steps = true;
    bool norms = true;
  };

  // Parameters at their start: context.rounded_layers of every quantized linear of the evaluator's
  // block, and norm weights where a pass before chose some (context.learned_norms), else the
  // block's. InvalidArgument when a quantized linear has no codes.
  static Result<RoundingStudent> create(const autodiff::BlockEvaluator& evaluator,
                                        const ir::Module& module, const PassContext& context,
                                        const Options& options);

  using BlockLearner::run;
  Pass run(autodiff::Tape& tape, const autodiff::Var& x, int64_t context,
           bool learning) const override;

  // Whether every step is a positive number, as a scale must be: rates that are too high can take
  // one to zero while the loss falls.
  Result<bool> storable() const;
  // Codes, scales and norm weights of a storable state back to context.rounded_layers and
  // context.learned_norms: what `quantize` makes of them is what run() multiplies with, but for
  // scales below quant::kMinScale, which become that.
  Status store(PassContext& context) const;
  // Lets go of the float weights that the evaluator has under the codes: run() does not read them.
  void release_float_weights(autodiff::BlockEvaluator& own_evaluator) const;
  // Codes that are not what create() found, as a part of all.
  Result<double> changed_codes(const PassContext& context) const;

 private:
  struct LinearState {
    std::string name;
    compute::WeightQuantizer quantizer;
    int offsets = -1;  // indices into parameters(); -1 = not learned
    int ratios = -1;
    compute::Tensor fixed_offsets;
    compute::Tensor steps;  // at their start, [N, G]
    compute::Tensor zeros;  // [N, G]
  };
  struct NormState {
    std::string weight;  // name of the tensor
    int parameter = -1;
    compute::Tensor fixed;
  };

  explicit RoundingStudent(const autodiff::BlockEvaluator& evaluator) : BlockLearner(evaluator) {}

  Status add_linear(const ir::Node& node, const PassContext& context, const Options& options);
  Status add_norm(const ir::Module& module, const ir::Node& node, const PassContext& context,
                  const Options& options);
  autodiff::Var steps_of(autodiff::Tape& tape, const LinearState& linear,
                         const std::vector<autodiff::Var>& bound) const;
  // What the codes of a linear are by now.
  std::vector<uint8_t> codes_of(const LinearState& linear, const RoundedLayer& layer) const;

  std::map<ir::ValueId, LinearState> linears_;  // quantized ones, by weight
  std::map<std::string, int> activation_bits_;  // of every linear, by name
  std::map<ir::ValueId, NormState> norms_;      // by weight
};

}  // namespace abq::passes
