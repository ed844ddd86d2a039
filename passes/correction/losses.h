// What distribution correction minimises over one batch (ABQ-LLM, arXiv 2408.08554, section 3):
//
//   DLC  -log|mean cos(y, t)|, cosine over channels, mean over tokens
//   AKL  KL(P || P_t) + KL(P_t || P) of the attention probabilities, mean over queries and heads
//   MSE  mean (y - t)^2
//
// y, P: the quantized block on the quantized stream; targets t, P_t: the float block on the float
// stream, and on the quantized stream, each with a weight of its own.
#pragma once

#include <vector>

#include "passes/autodiff/block_evaluator.h"
#include "quant/recipe.h"
#include "quant/report.h"

namespace abq::passes {

struct LossTargets {
  // Of the float block on the float and on the quantized stream.
  compute::Tensor float_output;
  compute::Tensor quantized_output;
  // Of each attention; may be empty where the term's weight is 0.
  std::vector<compute::Tensor> float_probabilities;
  std::vector<compute::Tensor> quantized_probabilities;
};

// Scalars on the device; the parts are times their weights, null where a term is off.
struct Losses {
  autodiff::Var total;
  autodiff::Var dlc;
  autodiff::Var akl;
  autodiff::Var mse;
};

Losses correction_losses(autodiff::Tape& tape, const quant::CorrectionSettings& settings,
                         const autodiff::BlockOutput& output, const LossTargets& targets);

// Mean over the attentions of the symmetric divergence of their probabilities.
autodiff::Var mean_divergence(autodiff::Tape& tape, const std::vector<autodiff::Var>& probabilities,
                              const std::vector<compute::Tensor>& targets);

// Sums of losses over batches, on the device until they are asked for.
class LossSums {
 public:
  explicit LossSums(compute::TensorDevice& device);
  void add(const Losses& losses, float weight);
  void add_divergence(const autodiff::Var& divergence, float weight);
  // Waits for the device.
  struct Values {
    quant::LossParts losses;
    double divergence = 0;
  };
  Values read();

 private:
  compute::TensorDevice& device_;
  compute::Tensor sums_;  // [5, 1]: total, dlc, akl, mse, divergence
};

}  // namespace abq::passes
