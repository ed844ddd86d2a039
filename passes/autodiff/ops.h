// The functions that a tape can differentiate: the IR's own ops on activations, and what a learned
// pass does to weights before they are used. Shapes and formulas are those of the functions of the
// same name in compute/tensor_device.h.
//
// An input that several results share must not be changed in place: gradients move by handle.
#pragma once

#include "passes/autodiff/tape.h"

namespace abq::passes::autodiff {

// ---- The IR's ops
Var linear(Tape& tape, const Var& x, const Var& w);
Var rms_norm(Tape& tape, const Var& x, const Var& weight, float eps);
Var rope(Tape& tape, const Var& x, int head_dim, int64_t context,
         const compute::Tensor& frequencies);
Var hadamard(Tape& tape, const Var& x, int64_t size);
Var attention_weights(Tape& tape, const compute::AttentionShape& shape, int64_t context,
                      const Var& q, const Var& k);
Var attention_mix(Tape& tape, const compute::AttentionShape& shape, int64_t context, const Var& p,
                  const Var& v);
Var silu_mul(Tape& tape, const Var& gate, const Var& up);
Var add(Tape& tape, const Var& a, const Var& b);
Var fake_quantize_tokens(Tape& tape, const Var& x, int bits, int64_t segment);

// ---- Weights and the vectors that change them; a null Var stands for an empty operand
// clip_low and clip_high are both null or both given.
Var fake_quantize_weight(Tape& tape, const Var& w, const Var& clip_low, const Var& clip_high,
                         const compute::WeightQuantizer& quantizer);
Var affine_weight(Tape& tape, const Var& w, const Var& row_scale, const Var& column_scale,
                  const Var& a, const Var& b);
// Of offsets and scales; zeros are constants.
Var rounded_weight(Tape& tape, const Var& offsets, const Var& scales, const compute::Tensor& zeros,
                   const compute::WeightQuantizer& quantizer);
Var multiply(Tape& tape, const Var& a, const Var& b);
Var reciprocal(Tape& tape, const Var& x);
Var sigmoid(Tape& tape, const Var& x);
Var away_from_zero(Tape& tape, const Var& x, float minimum);
Var repeat(Tape& tape, const Var& x, int64_t inner, int64_t count);

// ---- Losses, scalars; targets are constants
Var negative_log_abs(Tape& tape, const Var& x);
Var mean_cosine(Tape& tape, const Var& y, const compute::Tensor& target);
Var mean_squared_error(Tape& tape, const Var& y, const compute::Tensor& target);
Var symmetric_divergence(Tape& tape, const Var& p, const compute::Tensor& target);
Var logit_divergence(Tape& tape, const Var& y, const compute::Tensor& target);
// sum of weight * term.
struct Term {
  Var loss;
  float weight = 1;
};
Var weighted_sum(Tape& tape, const std::vector<Term>& terms);

}  // namespace abq::passes::autodiff
