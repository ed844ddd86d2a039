// What the optimization loop of a block knows of what it trains: parameters, and the quantized
// block as a function of them.
#pragma once

#include <string>
#include <vector>

#include "passes/autodiff/block_evaluator.h"
#include "passes/learned_blocks.h"

namespace abq::passes {

// One learned tensor.
struct LearnedParameter {
  enum class Kind { kScale, kClip, kCompensation, kCode, kStep, kNorm };
  std::string name;  // "scale layers.0.attn_norm -> q, k, v", "clip_low layers.0.mlp.up", ...
  Kind kind = Kind::kScale;
  compute::Tensor value;
};

class BlockLearner {
 public:
  virtual ~BlockLearner() = default;

  std::vector<LearnedParameter>& parameters() { return parameters_; }
  const std::vector<LearnedParameter>& parameters() const { return parameters_; }

  // One pass over x[batch * context, hidden]. With `learning`, the parameters are differentiable:
  // bound[i] stands for parameters()[i].
  struct Pass {
    autodiff::BlockOutput output;
    std::vector<autodiff::Var> bound;
  };
  Pass run(autodiff::Tape& tape, const compute::Tensor& x, int64_t context, bool learning) const {
    return run(tape, tape.constant(x), context, learning);
  }
  virtual Pass run(autodiff::Tape& tape, const autodiff::Var& x, int64_t context,
                   bool learning) const = 0;

  // Bytes that the optimization loop keeps for the parameters: values and their moments, the same
  // at two earlier times, gradients, and the best values so far.
  int64_t optimizer_bytes() const;

  // The parameters' values under their names; set() is InvalidArgument when names or shapes differ.
  Result<std::vector<LearnedTensor>> get() const;
  Status set(const std::vector<LearnedTensor>& tensors);

 protected:
  explicit BlockLearner(const autodiff::BlockEvaluator& evaluator) : evaluator_(&evaluator) {}

  // Returns the index of the new parameter.
  int add_parameter(std::string name, LearnedParameter::Kind kind, std::span<const float> values,
                    int64_t rows, int64_t cols);
  // Every parameter on a tape, as bound of Pass.
  std::vector<autodiff::Var> bind(autodiff::Tape& tape, bool learning) const;

  const autodiff::BlockEvaluator& evaluator() const { return *evaluator_; }
  compute::TensorDevice& device() const { return evaluator_->device(); }
  // A tensor's values on the host.
  std::vector<float> downloaded(const compute::Tensor& x) const;

 private:
  const autodiff::BlockEvaluator* evaluator_;
  std::vector<LearnedParameter> parameters_;
};

}  // namespace abq::passes
