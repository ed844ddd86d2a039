// The whole quantized model while step sizes and norm weights are fitted to the float model's
// logits: a RoundingStudent for each block, with codes as they are, and the head with its norm.
//
// Nothing of it needs a tape of the whole model: a forward run keeps what stands between blocks
// alone, and on the way back each block runs once more on a tape of its own.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "passes/correction/rounding_student.h"
#include "passes/pass.h"

namespace abq::passes {

class ModelStudent {
 public:
  // Bytes of all weights as float32, of their steps with gradients and moments, and of one window
  // of `tokens` on its way through the model and its head: an estimate, by which to tell beforehand
  // whether there is any use in create().
  static int64_t least_bytes(const ir::Module& module, const PassContext& context, int64_t tokens);

  // Of context.rounded_layers. InvalidArgument where the module has no head; errors of
  // RoundingStudent::create. The module outlives it.
  static Result<std::unique_ptr<ModelStudent>> create(compute::TensorDevice& device,
                                                      const ir::Module& module,
                                                      const PassContext& context);

  // Of all blocks in their order, then of the head.
  std::span<LearnedParameter* const> parameters() const { return parameters_; }
  // What learning takes on top of the weights for `windows` windows of `context` tokens at a time:
  // what stands between blocks, a block's tape or the head's logits with their targets and
  // gradients, and the optimizer's copies of the parameters.
  int64_t learning_bytes(int64_t windows, int64_t context) const;

  // Mean over tokens of KL(float || quantized), of windows of `context` tokens: embeddings x and
  // the float model's hidden states behind its last block, both [windows * context, hidden].
  compute::Tensor divergence(const compute::Tensor& x, const compute::Tensor& float_hidden,
                             int64_t context) const;
  // The same, and adds `share` times its gradients to gradients[i] of parameters()[i]; empty ones
  // are made.
  compute::Tensor differentiate(const compute::Tensor& x, const compute::Tensor& float_hidden,
                                int64_t context, float share,
                                std::span<compute::Tensor> gradients) const;

  // As RoundingStudent::storable(), of all blocks.
  Result<bool> storable() const;
  // Scales and norm weights of a storable state to context.rounded_layers and
  // context.learned_norms, the last norm to the module.
  Status store(ir::Module& module, PassContext& context) const;

 private:
  // The last norm and the output projection.
  struct Head {
    std::optional<autodiff::BlockEvaluator> evaluator;
    std::optional<ir::ValueId> norm;  // its weight
    LearnedParameter parameter;       // where there is one
  };

  explicit ModelStudent(compute::TensorDevice& device) : device_(device) {}
  Status create_head(const ir::Module& module, const ir::Region& region);
  // What each block reads, and behind the last one what the head reads.
  std::vector<compute::Tensor> forward(const compute::Tensor& x, int64_t context) const;
  // `norm` stands for the norm's weight; null: the float model's.
  autodiff::Var logits(autodiff::Tape& tape, const autodiff::Var& hidden,
                       const autodiff::Var& norm) const;
  autodiff::Var loss(autodiff::Tape& tape, const autodiff::Var& hidden, const autodiff::Var& norm,
                     const compute::Tensor& float_hidden) const;

  compute::TensorDevice& device_;
  std::vector<std::unique_ptr<autodiff::BlockEvaluator>> evaluators_;
  std::vector<RoundingStudent> students_;
  Head head_;
  std::vector<LearnedParameter*> parameters_;
};

}  // namespace abq::passes
