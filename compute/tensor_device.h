// Dense float math in a device's own memory, with the derivative of every function beside it: what
// learned passes run on.
//
// compute::Device multiplies what lies in the caller's memory and is what the interpreter and the
// runtime's float layers use; a TensorDevice keeps tensors where its arithmetic is (a GPU's memory)
// and hands out handles. Three of them: the CPU (float32, dispatched on the instruction set), CUDA
// (float32, no TF32) and the reference (float64 storage and arithmetic, plain loops), by which the
// other two and all derivatives are judged.
//
// Rules for all devices:
//   - Results are new tensors unless an argument is called `sum` or is named as changed in place.
//   - Work is ordered as called; download() and status() wait for it. upload() may wait for earlier
//     uploads, and a function whose result needs memory that the pool lacks for the whole device.
//   - Deterministic: every sum has an order that depends on the shapes alone.
//   - Errors are sticky: after the first failure (memory, a kernel launch) every function returns a
//     tensor of the right shape with undefined contents, download() fills its output with NaN, and
//     status() says what failed. Wrong shapes are broken invariants of ours (ABQ_CHECK), the same
//     on all devices (compute/tensor_checks.h).
//   - A gradient has the shape of the argument that it is the gradient of. Vectors (a norm's
//     weight, frequencies, the vectors of affine_weight), clip factors, scales and zeros of rounded
//     weights and what accumulate(), assign() and adamw() change are known by their size, whatever
//     its rows and columns; all other operands that meet element by element have one shape.
//   - One thread at a time.
//
// A function f has `f_backward`, which takes f's inputs (or its result where that is what the
// formula needs) and dy, the gradient of a scalar loss with respect to f's result, and returns the
// gradients with respect to the inputs, in the order of the inputs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "compute/compensated_rounding.h"
#include "compute/device.h"
#include "compute/tensor.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::compute {

struct AdamW {
  double rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  int64_t step = 1;  // 1 for the first
};

struct TensorPair {
  Tensor first;
  Tensor second;
};

struct WeightGradient {
  Tensor w;
  Tensor clip_low;
  Tensor clip_high;
};

struct AffineGradient {
  Tensor w;
  Tensor row_scale;
  Tensor column_scale;
  Tensor a;
  Tensor b;
};

struct RoundedWeightGradient {
  Tensor offsets;
  Tensor scales;
};

class TensorDevice {
 public:
  virtual ~TensorDevice() = default;

  // "cpu-avx2", "cuda-sm_90", "reference".
  virtual std::string_view name() const = 0;
  // All that the last bits of a result depend on beside its inputs, in words: the name, and on CUDA
  // the card, its multiprocessors and the version of cuBLAS.
  virtual std::string description() const { return std::string(name()); }
  // Whether tensors lie in the memory of the host.
  virtual bool on_host() const = 0;
  // The first failure since the device was made; waits for all work.
  virtual Status status() = 0;
  // Bytes that can still be allocated, those in the device's own pool included.
  virtual int64_t free_bytes() const = 0;
  // The most bytes that were in use at one time since the device was made.
  virtual int64_t peak_bytes() const = 0;

  // ---- Memory
  virtual Tensor allocate(int64_t rows, int64_t cols) = 0;  // contents undefined
  virtual Tensor filled(int64_t rows, int64_t cols, float value) = 0;
  virtual Tensor upload(std::span<const float> values, int64_t rows, int64_t cols) = 0;
  virtual void download(const Tensor& x, std::span<float> values) = 0;
  virtual Tensor copy(const Tensor& x) = 0;
  // `to` gets the values of `from`; same size.
  virtual void assign(const Tensor& to, const Tensor& from) = 0;

  // ---- Matrix products
  virtual Tensor linear(const Tensor& x, const Tensor& w) = 0;  // x[M, K] w[N, K]^T: [M, N]
  virtual Tensor matmul(const Tensor& a, const Tensor& b) = 0;  // a[M, K] b[K, N]: [M, N]
  virtual Tensor transposed_matmul(const Tensor& a, const Tensor& b) = 0;  // a[K, M]^T b[K, N]

  // ---- Elementwise
  virtual Tensor add(const Tensor& a, const Tensor& b) = 0;
  virtual Tensor multiply(const Tensor& a, const Tensor& b) = 0;
  virtual void accumulate(const Tensor& sum, const Tensor& x, float factor) = 0;  // sum += factor x
  virtual Tensor silu_mul(const Tensor& gate, const Tensor& up) = 0;
  virtual TensorPair silu_mul_backward(const Tensor& gate, const Tensor& up, const Tensor& dy) = 0;
  virtual Tensor sigmoid(const Tensor& x) = 0;
  virtual Tensor sigmoid_backward(const Tensor& y, const Tensor& dy) = 0;
  virtual Tensor reciprocal(const Tensor& x) = 0;
  virtual Tensor reciprocal_backward(const Tensor& y, const Tensor& dy) = 0;
  // |x| < minimum becomes minimum with the sign of x (+ for 0). Its gradient passes straight
  // through, so there is no backward.
  virtual Tensor away_from_zero(const Tensor& x, float minimum) = 0;
  virtual Tensor negative_log_abs(const Tensor& x) = 0;  // -log|x|
  virtual Tensor negative_log_abs_backward(const Tensor& x, const Tensor& dy) = 0;

  // ---- Rows
  // x / sqrt(mean(x^2) + eps) * weight[1, C], per row; the gradients of x and weight.
  virtual Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps) = 0;
  virtual TensorPair rms_norm_backward(const Tensor& x, const Tensor& weight, float eps,
                                       const Tensor& dy) = 0;
  // Rotates each head's pairs (j, j + D/2) of row r by position * frequencies[1, D/2], position =
  // r % context; the derivative is the rotation back (`inverse`).
  virtual Tensor rope(const Tensor& x, int head_dim, int64_t context, const Tensor& frequencies,
                      bool inverse) = 0;
  // Every `size` consecutive columns of each row times H_size / sqrt(size) or (`transposed`) its
  // transpose, as Device::hadamard; the derivative is the other of the two.
  virtual Tensor hadamard(const Tensor& x, int64_t size, bool transposed) = 0;
  // y[o, r, i] = x[o, i] for r < count over x read as [outer, inner]; a row of size * count. The
  // backward function sums over r.
  virtual Tensor repeat(const Tensor& x, int64_t inner, int64_t count) = 0;
  virtual Tensor repeat_backward(const Tensor& dy, int64_t inner, int64_t count) = 0;
  // Per column over the rows of x[M, C], M > 0: minimum, maximum, sum of squares: [3, C]; all three
  // are NaN where the column has a NaN.
  virtual Tensor column_statistics(const Tensor& x) = 0;

  // ---- Attention, probabilities explicit: batch = rows / context sequences
  // P = causal softmax(q k^T / sqrt(D)), [batch * heads * context, context], row
  // (b * heads + head) * context + query; keys a query does not see are exactly 0.
  virtual Tensor attention_weights(const AttentionShape& shape, int64_t context, const Tensor& q,
                                   const Tensor& k) = 0;
  virtual TensorPair attention_weights_backward(const AttentionShape& shape, int64_t context,
                                                const Tensor& q, const Tensor& k, const Tensor& p,
                                                const Tensor& dp) = 0;
  // P v: [batch * context, heads * D]; the gradients of p (only seen keys are meaningful, the
  // others are 0) and v.
  virtual Tensor attention_mix(const AttentionShape& shape, int64_t context, const Tensor& p,
                               const Tensor& v) = 0;
  virtual TensorPair attention_mix_backward(const AttentionShape& shape, int64_t context,
                                            const Tensor& p, const Tensor& v, const Tensor& dy) = 0;

  // ---- Quantizers, straight through: round(v / scale) has derivative 1 / scale in v, the zero
  // point's rounding has derivative 0, the clamp blocks outside the codes, the range's bounds pass
  // to the (first) extreme element; a guarded scale (1e-8) and a bound held at 0 pass nothing.
  // Binary weights w' = s sign(w), s = mean |w|, sign(0) = 1: dy passes to w where |w| <= s; s gets
  // ds = sum of dy sign(w) over all weights of the row or group, and passes ds sign(w) / length to
  // each that is not 0 (nothing when guarded).
  // An element that is NaN is as quant/affine.h has it: the range skips it, its code is 0 and its
  // gradient 0.
  // Per token, asymmetric, 2^bits levels; each `segment` columns of a row are a token of their own
  // (segment divides the columns). Equal to quant::fake_quantize_tokens in every bit on float32.
  virtual Tensor fake_quantize_tokens(const Tensor& x, int bits, int64_t segment) = 0;
  virtual Tensor fake_quantize_tokens_backward(const Tensor& x, int bits, int64_t segment,
                                               const Tensor& dy) = 0;
  // w[N, K] with clip factors [N, G] for both ends of each row or group; both empty: no clipping,
  // and no gradients for them. Equal to quantizing and dequantizing by quant/affine.h in every bit
  // on float32 with an unclipped or clipped range (binary: up to the rounding of the mean). A clip
  // factor that is NaN makes its whole row or group NaN.
  virtual Tensor fake_quantize_weight(const Tensor& w, const Tensor& clip_low,
                                      const Tensor& clip_high,
                                      const WeightQuantizer& quantizer) = 0;
  virtual WeightGradient fake_quantize_weight_backward(const Tensor& w, const Tensor& clip_low,
                                                       const Tensor& clip_high,
                                                       const WeightQuantizer& quantizer,
                                                       const Tensor& dy) = 0;

  // Codes learned on scales that are learned (learned rounding as in BRECQ, arXiv 2102.05426, and
  // the block training of EfficientQAT, arXiv 2407.11062):
  //   y[n, k] = scales[n, g] * clamp(round(offsets[n, k]), -zeros[n, g], levels - 1 - zeros[n, g])
  // with g the group of k and halves rounded to even. offsets[N, K] are codes minus zero points
  // before rounding; scales and zeros [N, G], the zeros whole numbers. Binary:
  // y = scales * (offsets >= 0 ? 1 : -1), and zeros may be empty. The quantizer gives kind, levels
  // and group_size; its steps and zero mean nothing here. One product an element: on the same
  // operands the devices agree in every bit. A NaN offset gives NaN.
  virtual Tensor rounded_weight(const Tensor& offsets, const Tensor& scales, const Tensor& zeros,
                                const WeightQuantizer& quantizer) = 0;
  // Straight through: dy * scale passes to an offset where round(offset) + zero is in
  // 0 .. levels - 1, bounds included (binary: where |offset| <= 1), 0 elsewhere and for NaN. The
  // gradient of a scale sums dy times the clamped whole number (binary: the sign) over its group,
  // and is NaN where an offset of the group is. `offsets_wanted` false: that gradient is empty.
  virtual RoundedWeightGradient rounded_weight_backward(const Tensor& offsets, const Tensor& scales,
                                                        const Tensor& zeros,
                                                        const WeightQuantizer& quantizer,
                                                        const Tensor& dy, bool offsets_wanted) = 0;

  // y[n, k] = w[n, k] * row_scale[n] * column_scale[k] + a[n] * b[k]; each vector ([1, N] or
  // [1, K]) may be empty (1, or no outer product: a and b come together). Gradients of empty
  // vectors are empty, and `w`'s is made only when asked for.
  virtual Tensor affine_weight(const Tensor& w, const Tensor& row_scale, const Tensor& column_scale,
                               const Tensor& a, const Tensor& b) = 0;
  virtual AffineGradient affine_weight_backward(const Tensor& w, const Tensor& row_scale,
                                                const Tensor& column_scale, const Tensor& a,
                                                const Tensor& b, const Tensor& dy,
                                                bool w_wanted) = 0;

  // ---- Losses: scalars [1, 1]; gradients for the first argument only
  // Mean over rows of cos(y[r], target[r]); |y| |target| is guarded by 1e-8.
  virtual Tensor mean_cosine(const Tensor& y, const Tensor& target) = 0;
  virtual Tensor mean_cosine_backward(const Tensor& y, const Tensor& target,
                                      const Tensor& dloss) = 0;
  virtual Tensor mean_squared_error(const Tensor& y, const Tensor& target) = 0;
  virtual Tensor mean_squared_error_backward(const Tensor& y, const Tensor& target,
                                             const Tensor& dloss) = 0;
  // Mean over rows of KL(p || t) + KL(t || p) = sum (p - t) (log p - log t), probabilities floored
  // at 1e-8 (a floored p has gradient 0). Rows as attention_weights gives them: row r sees keys
  // 0 .. r % context; the others are skipped and get gradient 0.
  virtual Tensor symmetric_divergence(const Tensor& p, const Tensor& target) = 0;
  virtual Tensor symmetric_divergence_backward(const Tensor& p, const Tensor& target,
                                               const Tensor& dloss) = 0;
  // Mean over rows of KL(softmax(target) || softmax(y)) = sum p_t (log p_t - log p_y), y and target
  // [rows, vocabulary]; the gradient is (softmax(y) - softmax(target)) * dloss / rows. The loss
  // keeps its digits where y is close to target up to a constant of the row's.
  virtual Tensor logit_divergence(const Tensor& y, const Tensor& target) = 0;
  virtual Tensor logit_divergence_backward(const Tensor& y, const Tensor& target,
                                           const Tensor& dloss) = 0;

  // ---- Optimizer: one step of AdamW (arXiv 1711.05101), all three changed in place.
  virtual void adamw(const Tensor& parameter, const Tensor& gradient, const Tensor& mean,
                     const Tensor& variance, const AdamW& settings) = 0;

  // ---- Rounding with error compensation of layers whose input has k columns. It uses this device
  // and must not outlive it.
  virtual std::unique_ptr<CompensatedRounder> create_rounder(int64_t k) = 0;
};

// The CPU's; its arithmetic uses all threads of parallel_for.
std::unique_ptr<TensorDevice> create_cpu_tensor_device();
// The judge: float64 in storage and arithmetic, plain loops; upload and download convert.
std::unique_ptr<TensorDevice> create_reference_tensor_device();
// The first CUDA device. Unsupported says what is missing: the library, a driver, cuBLAS, a device
// this build has code for. Device says what failed on a device that is there.
Result<std::unique_ptr<TensorDevice>> create_cuda_tensor_device();

}  // namespace abq::compute
