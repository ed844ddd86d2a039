// What learned passes train through: quantizers, rounded weights, affine transforms, losses and the
// optimizer. Each function is one launcher of row_kernels.h; here are shapes, results and scratch.
#include "compute/cuda/cuda_tensor_device.h"
#include "compute/cuda/row_kernels.h"
#include "compute/cuda/tensor_arguments.h"
#include "compute/tensor_checks.h"

namespace abq::compute::cuda {
namespace {

WeightGrid weight_grid(const WeightQuantizer& quantizer, int64_t group_size) {
  WeightGrid grid;
  switch (quantizer.kind) {
    case WeightQuantizer::Kind::kAsymmetric:
      grid.kind = WeightGrid::Kind::kAsymmetric;
      break;
    case WeightQuantizer::Kind::kSymmetric:
      grid.kind = WeightGrid::Kind::kSymmetric;
      break;
    case WeightQuantizer::Kind::kBinary:
      grid.kind = WeightGrid::Kind::kBinary;
      break;
  }
  grid.levels = quantizer.levels;
  grid.steps = quantizer.steps;
  grid.zero = quantizer.zero;
  grid.group_size = group_size;
  return grid;
}

}  // namespace

// ---- Quantizers

Tensor CudaTensorDevice::fake_quantize_tokens(const Tensor& x, int bits, int64_t segment) {
  check_tokens(x, bits, segment);
  Tensor y = allocate(x.rows(), x.cols());
  run("fake_quantize_tokens", y, [&] {
    cuda::fake_quantize_tokens(floats(x), bits, segment, floats(y), x.rows(), x.cols(), stream_);
  });
  return y;
}

Tensor CudaTensorDevice::fake_quantize_tokens_backward(const Tensor& x, int bits, int64_t segment,
                                                       const Tensor& dy) {
  check_tokens(x, bits, segment);
  check_same_shape(x, dy);
  Tensor dx = allocate(x.rows(), x.cols());
  run("fake_quantize_tokens_backward", dx, [&] {
    cuda::fake_quantize_tokens_backward(floats(x), bits, segment, floats(dy), floats(dx), x.rows(),
                                        x.cols(), stream_);
  });
  return dx;
}

Tensor CudaTensorDevice::fake_quantize_weight(const Tensor& w, const Tensor& clip_low,
                                              const Tensor& clip_high,
                                              const WeightQuantizer& quantizer) {
  const WeightGrid grid =
      weight_grid(quantizer, check_weight_quantizer(w, clip_low, clip_high, quantizer));
  Tensor y = allocate(w.rows(), w.cols());
  run("fake_quantize_weight", y, [&] {
    cuda::fake_quantize_weight(floats(w), floats(clip_low), floats(clip_high), grid, floats(y),
                               w.rows(), w.cols(), stream_);
  });
  return y;
}

WeightGradient CudaTensorDevice::fake_quantize_weight_backward(const Tensor& w,
                                                               const Tensor& clip_low,
                                                               const Tensor& clip_high,
                                                               const WeightQuantizer& quantizer,
                                                               const Tensor& dy) {
  const WeightGrid grid =
      weight_grid(quantizer, check_weight_quantizer(w, clip_low, clip_high, quantizer));
  check_same_shape(w, dy);
  WeightGradient d;
  d.w = allocate(w.rows(), w.cols());
  if (!clip_low.empty()) {
    d.clip_low = allocate(clip_low.rows(), clip_low.cols());
    d.clip_high = allocate(clip_high.rows(), clip_high.cols());
  }
  run("fake_quantize_weight_backward", d.w, [&] {
    cuda::fake_quantize_weight_backward(floats(w), floats(clip_low), floats(clip_high), grid,
                                        floats(dy), floats(d.w), floats(d.clip_low),
                                        floats(d.clip_high), w.rows(), w.cols(), stream_);
  });
  return d;
}

// ---- Rounded weights

Tensor CudaTensorDevice::rounded_weight(const Tensor& offsets, const Tensor& scales,
                                        const Tensor& zeros, const WeightQuantizer& quantizer) {
  const WeightGrid grid =
      weight_grid(quantizer, check_rounded_weight(offsets, scales, zeros, quantizer));
  Tensor y = allocate(offsets.rows(), offsets.cols());
  run("rounded_weight", y, [&] {
    cuda::rounded_weight(floats(offsets), floats(scales), floats(zeros), grid, floats(y),
                         offsets.rows(), offsets.cols(), stream_);
  });
  return y;
}

RoundedWeightGradient CudaTensorDevice::rounded_weight_backward(
    const Tensor& offsets, const Tensor& scales, const Tensor& zeros,
    const WeightQuantizer& quantizer, const Tensor& dy, bool offsets_wanted) {
  const WeightGrid grid =
      weight_grid(quantizer, check_rounded_weight(offsets, scales, zeros, quantizer));
  check_same_shape(offsets, dy);
  RoundedWeightGradient d;
  if (offsets_wanted) d.offsets = allocate(offsets.rows(), offsets.cols());
  d.scales = allocate(scales.rows(), scales.cols());
  run("rounded_weight_backward", d.scales, [&] {
    cuda::rounded_weight_backward(floats(offsets), floats(scales), floats(zeros), grid, floats(dy),
                                  floats(d.offsets), floats(d.scales), offsets.rows(),
                                  offsets.cols(), stream_);
  });
  return d;
}

// ---- Affine transforms

Tensor CudaTensorDevice::affine_weight(const Tensor& w, const Tensor& row_scale,
                                       const Tensor& column_scale, const Tensor& a,
                                       const Tensor& b) {
  check_affine_weight(w, row_scale, column_scale, a, b);
  Tensor y = allocate(w.rows(), w.cols());
  run("affine_weight", y, [&] {
    cuda::affine_weight(floats(w), floats(row_scale), floats(column_scale), floats(a), floats(b),
                        floats(y), w.rows(), w.cols(), stream_);
  });
  return y;
}

AffineGradient CudaTensorDevice::affine_weight_backward(const Tensor& w, const Tensor& row_scale,
                                                        const Tensor& column_scale, const Tensor& a,
                                                        const Tensor& b, const Tensor& dy,
                                                        bool w_wanted) {
  check_affine_weight(w, row_scale, column_scale, a, b);
  check_same_shape(w, dy);
  AffineGradient d;
  if (w_wanted) d.w = allocate(w.rows(), w.cols());
  const auto like = [&](const Tensor& x) {
    return x.empty() ? Tensor() : allocate(x.rows(), x.cols());
  };
  d.row_scale = like(row_scale);
  d.column_scale = like(column_scale);
  d.a = like(a);
  d.b = like(b);
  const Tensor scratch = allocate(1, affine_weight_backward_scratch(w.rows(), w.cols()));
  run("affine_weight_backward", w, [&] {
    cuda::affine_weight_backward(floats(w), floats(row_scale), floats(column_scale), floats(a),
                                 floats(b), floats(dy), floats(d.w), floats(d.row_scale),
                                 floats(d.column_scale), floats(d.a), floats(d.b), floats(scratch),
                                 w.rows(), w.cols(), stream_);
  });
  return d;
}

// ---- Losses

Tensor CudaTensorDevice::mean_cosine(const Tensor& y, const Tensor& target) {
  check_loss(y, target);
  Tensor loss = allocate(1, 1);
  const Tensor scratch = allocate(1, mean_cosine_scratch(y.rows(), y.cols()));
  run("mean_cosine", y, [&] {
    cuda::mean_cosine(floats(y), floats(target), floats(loss), floats(scratch), y.rows(), y.cols(),
                      stream_);
  });
  return loss;
}

Tensor CudaTensorDevice::mean_cosine_backward(const Tensor& y, const Tensor& target,
                                              const Tensor& dloss) {
  check_loss_backward(y, target, dloss);
  Tensor dy = allocate(y.rows(), y.cols());
  run("mean_cosine_backward", dy, [&] {
    cuda::mean_cosine_backward(floats(y), floats(target), floats(dloss), floats(dy), y.rows(),
                               y.cols(), stream_);
  });
  return dy;
}

Tensor CudaTensorDevice::mean_squared_error(const Tensor& y, const Tensor& target) {
  check_loss(y, target);
  Tensor loss = allocate(1, 1);
  const Tensor scratch = allocate(1, mean_squared_error_scratch(y.rows(), y.cols()));
  run("mean_squared_error", y, [&] {
    cuda::mean_squared_error(floats(y), floats(target), floats(loss), floats(scratch), y.rows(),
                             y.cols(), stream_);
  });
  return loss;
}

Tensor CudaTensorDevice::mean_squared_error_backward(const Tensor& y, const Tensor& target,
                                                     const Tensor& dloss) {
  check_loss_backward(y, target, dloss);
  Tensor dy = allocate(y.rows(), y.cols());
  run("mean_squared_error_backward", dy, [&] {
    cuda::mean_squared_error_backward(floats(y), floats(target), floats(dloss), floats(dy),
                                      y.rows(), y.cols(), stream_);
  });
  return dy;
}

Tensor CudaTensorDevice::symmetric_divergence(const Tensor& p, const Tensor& target) {
  check_divergence(p, target);
  Tensor loss = allocate(1, 1);
  const Tensor scratch = allocate(1, symmetric_divergence_scratch(p.rows(), p.cols()));
  run("symmetric_divergence", p, [&] {
    cuda::symmetric_divergence(floats(p), floats(target), floats(loss), floats(scratch), p.rows(),
                               p.cols(), stream_);
  });
  return loss;
}

Tensor CudaTensorDevice::symmetric_divergence_backward(const Tensor& p, const Tensor& target,
                                                       const Tensor& dloss) {
  check_divergence_backward(p, target, dloss);
  Tensor dp = allocate(p.rows(), p.cols());
  run("symmetric_divergence_backward", dp, [&] {
    cuda::symmetric_divergence_backward(floats(p), floats(target), floats(dloss), floats(dp),
                                        p.rows(), p.cols(), stream_);
  });
  return dp;
}

Tensor CudaTensorDevice::logit_divergence(const Tensor& y, const Tensor& target) {
  check_loss(y, target);
  Tensor loss = allocate(1, 1);
  const Tensor scratch = allocate(1, logit_divergence_scratch(y.rows(), y.cols()));
  run("logit_divergence", y, [&] {
    cuda::logit_divergence(floats(y), floats(target), floats(loss), floats(scratch), y.rows(),
                           y.cols(), stream_);
  });
  return loss;
}

Tensor CudaTensorDevice::logit_divergence_backward(const Tensor& y, const Tensor& target,
                                                   const Tensor& dloss) {
  check_loss_backward(y, target, dloss);
  Tensor dy = allocate(y.rows(), y.cols());
  run("logit_divergence_backward", dy, [&] {
    cuda::logit_divergence_backward(floats(y), floats(target), floats(dloss), floats(dy), y.rows(),
                                    y.cols(), stream_);
  });
  return dy;
}

// ---- Optimizer

void CudaTensorDevice::adamw(const Tensor& parameter, const Tensor& gradient, const Tensor& mean,
                             const Tensor& variance, const AdamW& settings) {
  check_adamw(parameter, gradient, mean, variance, settings);
  AdamWStep step;
  step.rate = settings.rate;
  step.beta1 = settings.beta1;
  step.beta2 = settings.beta2;
  step.epsilon = settings.epsilon;
  step.weight_decay = settings.weight_decay;
  step.step = settings.step;
  run("adamw", parameter, [&] {
    cuda::adamw(floats(parameter), floats(gradient), floats(mean), floats(variance), step,
                parameter.size(), stream_);
  });
}

}  // namespace abq::compute::cuda
