// One function per op: its value, and beside it the way back.
#include "passes/autodiff/ops.h"

namespace abq::passes::autodiff {
namespace {

using compute::Tensor;

Tensor value_or_empty(const Var& x) {
  return x ? x->value : Tensor();
}

std::vector<Tensor> both(compute::TensorPair pair) {
  return {std::move(pair.first), std::move(pair.second)};
}

// Keeps what exists of optional inputs and their gradients, so that both lists stay in step.
class OptionalInputs {
 public:
  explicit OptionalInputs(const std::vector<Var>& all) {
    for (const Var& input : all)
      given_.push_back(input != nullptr);
    for (const Var& input : all)
      if (input) inputs_.push_back(input);
  }
  const std::vector<Var>& inputs() const { return inputs_; }
  std::vector<Tensor> gradients(std::vector<Tensor> all) const {
    std::vector<Tensor> kept;
    for (size_t i = 0; i < all.size(); ++i)
      if (given_[i]) kept.push_back(std::move(all[i]));
    return kept;
  }

 private:
  std::vector<bool> given_;
  std::vector<Var> inputs_;
};

}  // namespace

Var linear(Tape& tape, const Var& x, const Var& w) {
  compute::TensorDevice& device = tape.device();
  return tape.record(device.linear(x->value, w->value), {x, w}, [&device, x, w](const Tensor& dy) {
    return std::vector<Tensor>{
        x->wants_gradient ? device.matmul(dy, w->value) : Tensor(),
        w->wants_gradient ? device.transposed_matmul(dy, x->value) : Tensor()};
  });
}

Var rms_norm(Tape& tape, const Var& x, const Var& weight, float eps) {
  compute::TensorDevice& device = tape.device();
  return tape.record(device.rms_norm(x->value, weight->value, eps), {x, weight},
                     [&device, x, weight, eps](const Tensor& dy) {
                       return both(device.rms_norm_backward(x->value, weight->value, eps, dy));
                     });
}

Var rope(Tape& tape, const Var& x, int head_dim, int64_t context, const Tensor& frequencies) {
  compute::TensorDevice& device = tape.device();
  return tape.record(
      device.rope(x->value, head_dim, context, frequencies, false), {x},
      [&device, head_dim, context, frequencies](const Tensor& dy) {
        return std::vector<Tensor>{device.rope(dy, head_dim, context, frequencies, true)};
      });
}

Var hadamard(Tape& tape, const Var& x, int64_t size) {
  compute::TensorDevice& device = tape.device();
  return tape.record(device.hadamard(x->value, size, false), {x},
                     [&device, size](const Tensor& dy) {
                       return std::vector<Tensor>{device.hadamard(dy, size, true)};
                     });
}

Var attention_weights(Tape& tape, const compute::AttentionShape& shape, int64_t context,
                      const Var& q, const Var& k) {
  compute::TensorDevice& device = tape.device();
  const Tensor p = device.attention_weights(shape, context, q->value, k->value);
  return tape.record(p, {q, k}, [&device, shape, context, q, k, p](const Tensor& dp) {
    return both(device.attention_weights_backward(shape, context, q->value, k->value, p, dp));
  });
}

Var attention_mix(Tape& tape, const compute::AttentionShape& shape, int64_t context, const Var& p,
                  const Var& v) {
  compute::TensorDevice& device = tape.device();
  return tape.record(
      device.attention_mix(shape, context, p->value, v->value), {p, v},
      [&device, shape, context, p, v](const Tensor& dy) {
        return both(device.attention_mix_backward(shape, context, p->value, v->value, dy));
      });
}

Var silu_mul(Tape& tape, const Var& gate, const Var& up) {
  compute::TensorDevice& device = tape.device();
  return tape.record(device.silu_mul(gate->value, up->value), {gate, up},
                     [&device, gate, up](const Tensor& dy) {
                       return both(device.silu_mul_backward(gate->value, up->value, dy));
                     });
}

Var add(Tape& tape, const Var& a, const Var& b) {
  compute::TensorDevice& device = tape.device();
  return tape.record(device.add(a->value, b->value), {a, b}, [&device, a, b](const Tensor& dy) {
    // Each input owns its gradient: others may be added to it.
    return std::vector<Tensor>{a->wants_gradient ? device.copy(dy) : Tensor(),
                               b->wants_gradient ? dy : Tensor()};
  });
}

Var fake_quantize_tokens(Tape& tape, const Var& x, int bits, int64_t segment) {
  compute::TensorDevice& device = tape.device();
  return tape.record(device.fake_quantize_tokens(x->value, bits, segment), {x},
                     [&device, x, bits, segment](const Tensor& dy) {
                       return std::vector<Tensor>{
                           device.fake_quantize_tokens_backward(x->value, bits, segment, dy)};
                     });
}

Var fake_quantize_weight(Tape& tape, const Var& w, const Var& clip_low, const Var& clip_high,
                         const compute::WeightQuantizer& quantizer) {
  compute::TensorDevice& device = tape.device();
  const Tensor low = value_or_empty(clip_low);
  const Tensor high = value_or_empty(clip_high);
  const OptionalInputs optional({w, clip_low, clip_high});
  return tape.record(
      device.fake_quantize_weight(w->value, low, high, quantizer), optional.inputs(),
      [&device, optional, w, low, high, quantizer](const Tensor& dy) {
        compute::WeightGradient gradient =
            device.fake_quantize_weight_backward(w->value, low, high, quantizer, dy);
        return optional.gradients({gradient.w, gradient.clip_low, gradient.clip_high});
      });
}

Var affine_weight(Tape& tape, const Var& w, const Var& row_scale, const Var& column_scale,
                  const Var& a, const Var& b) {
  compute::TensorDevice& device = tape.device();
  const Tensor rows = value_or_empty(row_scale);
  const Tensor columns = value_or_empty(column_scale);
  const Tensor left = value_or_empty(a);
  const Tensor right = value_or_empty(b);
  const OptionalInputs optional({w, row_scale, column_scale, a, b});
  return tape.record(device.affine_weight(w->value, rows, columns, left, right), optional.inputs(),
                     [&device, optional, w, rows, columns, left, right](const Tensor& dy) {
                       compute::AffineGradient gradient = device.affine_weight_backward(
                           w->value, rows, columns, left, right, dy, w->wants_gradient);
                       return optional.gradients({gradient.w, gradient.row_scale,
                                                  gradient.column_scale, gradient.a, gradient.b});
                     });
}

Var rounded_weight(Tape& tape, const Var& offsets, const Var& scales, const Tensor& zeros,
                   const compute::WeightQuantizer& quantizer) {
  compute::TensorDevice& device = tape.device();
  return tape.record(
      device.rounded_weight(offsets->value, scales->value, zeros, quantizer), {offsets, scales},
      [&device, offsets, scales, zeros, quantizer](const Tensor& dy) {
        compute::RoundedWeightGradient d = device.rounded_weight_backward(
            offsets->value, scales->value, zeros, quantizer, dy, offsets->wants_gradient);
        return std::vector<Tensor>{std::move(d.offsets), std::move(d.scales)};
      });
}

Var multiply(Tape& tape, const Var& a, const Var& b) {
  compute::TensorDevice& device = tape.device();
  return tape.record(
      device.multiply(a->value, b->value), {a, b}, [&device, a, b](const Tensor& dy) {
        return std::vector<Tensor>{a->wants_gradient ? device.multiply(dy, b->value) : Tensor(),
                                   b->wants_gradient ? device.multiply(dy, a->value) : Tensor()};
      });
}

Var reciprocal(Tape& tape, const Var& x) {
  compute::TensorDevice& device = tape.device();
  const Tensor y = device.reciprocal(x->value);
  return tape.record(y, {x}, [&device, y](const Tensor& dy) {
    return std::vector<Tensor>{device.reciprocal_backward(y, dy)};
  });
}

Var sigmoid(Tape& tape, const Var& x) {
  compute::TensorDevice& device = tape.device();
  const Tensor y = device.sigmoid(x->value);
  return tape.record(y, {x}, [&device, y](const Tensor& dy) {
    return std::vector<Tensor>{device.sigmoid_backward(y, dy)};
  });
}

Var away_from_zero(Tape& tape, const Var& x, float minimum) {
  return tape.record(tape.device().away_from_zero(x->value, minimum), {x},
                     [](const Tensor& dy) { return std::vector<Tensor>{dy}; });
}

Var repeat(Tape& tape, const Var& x, int64_t inner, int64_t count) {
  compute::TensorDevice& device = tape.device();
  return tape.record(device.repeat(x->value, inner, count), {x},
                     [&device, inner, count](const Tensor& dy) {
                       return std::vector<Tensor>{device.repeat_backward(dy, inner, count)};
                     });
}

Var negative_log_abs(Tape& tape, const Var& x) {
  compute::TensorDevice& device = tape.device();
  return tape.record(device.negative_log_abs(x->value), {x}, [&device, x](const Tensor& dy) {
    return std::vector<Tensor>{device.negative_log_abs_backward(x->value, dy)};
  });
}

Var mean_cosine(Tape& tape, const Var& y, const Tensor& target) {
  compute::TensorDevice& device = tape.device();
  return tape.record(
      device.mean_cosine(y->value, target), {y}, [&device, y, target](const Tensor& dloss) {
        return std::vector<Tensor>{device.mean_cosine_backward(y->value, target, dloss)};
      });
}

Var mean_squared_error(Tape& tape, const Var& y, const Tensor& target) {
  compute::TensorDevice& device = tape.device();
  return tape.record(
      device.mean_squared_error(y->value, target), {y}, [&device, y, target](const Tensor& dloss) {
        return std::vector<Tensor>{device.mean_squared_error_backward(y->value, target, dloss)};
      });
}

Var symmetric_divergence(Tape& tape, const Var& p, const Tensor& target) {
  compute::TensorDevice& device = tape.device();
  return tape.record(
      device.symmetric_divergence(p->value, target), {p},
      [&device, p, target](const Tensor& dloss) {
        return std::vector<Tensor>{device.symmetric_divergence_backward(p->value, target, dloss)};
      });
}

Var logit_divergence(Tape& tape, const Var& y, const Tensor& target) {
  compute::TensorDevice& device = tape.device();
  return tape.record(
      device.logit_divergence(y->value, target), {y}, [&device, y, target](const Tensor& dloss) {
        return std::vector<Tensor>{device.logit_divergence_backward(y->value, target, dloss)};
      });
}

Var weighted_sum(Tape& tape, const std::vector<Term>& terms) {
  compute::TensorDevice& device = tape.device();
  const Tensor sum = device.filled(1, 1, 0.0f);
  std::vector<Var> inputs;
  std::vector<float> weights;
  for (const Term& term : terms) {
    device.accumulate(sum, term.loss->value, term.weight);
    inputs.push_back(term.loss);
    weights.push_back(term.weight);
  }
  return tape.record(sum, inputs, [&device, weights](const Tensor& dy) {
    std::vector<Tensor> gradients;
    for (const float weight : weights) {
      gradients.push_back(device.filled(1, 1, 0.0f));
      device.accumulate(gradients.back(), dy, weight);
    }
    return gradients;
  });
}

}  // namespace abq::passes::autodiff
