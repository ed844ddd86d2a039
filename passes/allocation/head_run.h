// The head region on a tensor device: logits of hidden states, and how far those of two differ.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ir/graph.h"
#include "passes/autodiff/block_evaluator.h"
#include "quant/divergence.h"

namespace abq::passes {

class HeadRun {
 public:
  // `head` is a module of the head region alone. Errors of BlockEvaluator::create.
  static Result<std::unique_ptr<HeadRun>> create(compute::TensorDevice& device, ir::Module head);

  // hidden [tokens, hidden] -> logits [tokens, V], to be run on few tokens at a time.
  Status logits(std::span<const float> hidden, std::vector<float>& logits) const;
  // Summed over tokens: how far `other` leads from `reference`, both [tokens, hidden].
  Result<quant::Divergence> compare(std::span<const float> reference,
                                    std::span<const float> other) const;

 private:
  HeadRun(compute::TensorDevice& device, ir::Module head)
      : device_(device), head_(std::move(head)) {}

  compute::TensorDevice& device_;
  ir::Module head_;
  std::optional<autodiff::BlockEvaluator> evaluator_;
};

// Tokens that go through a head at a time: a vocabulary of logits each.
inline constexpr int64_t kHeadTokens = 256;

}  // namespace abq::passes
