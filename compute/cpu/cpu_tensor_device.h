// The CPU's tensor device: cuts each function into pieces whose bounds depend on the shape only and
// runs the single-threaded kernels of one instruction set level on them.
//
//   cpu_tensor_device.cpp      memory, products, elementwise functions, optimizer
//   cpu_tensor_rows.cpp        norms, rotations, repeats, statistics, losses
//   cpu_tensor_attention.cpp   probabilities, their use, both derivatives
//   cpu_tensor_quantizers.cpp  the fake quantizers, rounded weights, the affine transform
//   cpu_compensated_rounder.h  rounding with error compensation
#pragma once

#include <string>

#include "compute/cpu/cpu_device.h"
#include "compute/host_memory.h"
#include "compute/tensor_device.h"

namespace abq::compute {

class CpuTensorDevice final : public TensorDevice {
 public:
  // A level that this build has and the machine can execute (kernels_for).
  explicit CpuTensorDevice(CpuIsa isa);

  std::string_view name() const override { return name_; }
  bool on_host() const override { return true; }
  Status status() override { return memory_.status(); }
  int64_t free_bytes() const override { return memory_.free_bytes(); }
  int64_t peak_bytes() const override { return memory_.peak_bytes(); }

  Tensor allocate(int64_t rows, int64_t cols) override;
  Tensor filled(int64_t rows, int64_t cols, float value) override;
  Tensor upload(std::span<const float> values, int64_t rows, int64_t cols) override;
  void download(const Tensor& x, std::span<float> values) override;
  Tensor copy(const Tensor& x) override;
  void assign(const Tensor& to, const Tensor& from) override;

  Tensor linear(const Tensor& x, const Tensor& w) override;
  Tensor matmul(const Tensor& a, const Tensor& b) override;
  Tensor transposed_matmul(const Tensor& a, const Tensor& b) override;

  Tensor add(const Tensor& a, const Tensor& b) override;
  Tensor multiply(const Tensor& a, const Tensor& b) override;
  void accumulate(const Tensor& sum, const Tensor& x, float factor) override;
  Tensor silu_mul(const Tensor& gate, const Tensor& up) override;
  TensorPair silu_mul_backward(const Tensor& gate, const Tensor& up, const Tensor& dy) override;
  Tensor sigmoid(const Tensor& x) override;
  Tensor sigmoid_backward(const Tensor& y, const Tensor& dy) override;
  Tensor reciprocal(const Tensor& x) override;
  Tensor reciprocal_backward(const Tensor& y, const Tensor& dy) override;
  Tensor away_from_zero(const Tensor& x, float minimum) override;
  Tensor negative_log_abs(const Tensor& x) override;
  Tensor negative_log_abs_backward(const Tensor& x, const Tensor& dy) override;

  Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps) override;
  TensorPair rms_norm_backward(const Tensor& x, const Tensor& weight, float eps,
                               const Tensor& dy) override;
  Tensor rope(const Tensor& x, int head_dim, int64_t context, const Tensor& frequencies,
              bool inverse) override;
  Tensor hadamard(const Tensor& x, int64_t size, bool transposed) override;
  Tensor repeat(const Tensor& x, int64_t inner, int64_t count) override;
  Tensor repeat_backward(const Tensor& dy, int64_t inner, int64_t count) override;
  Tensor column_statistics(const Tensor& x) override;

  Tensor attention_weights(const AttentionShape& shape, int64_t context, const Tensor& q,
                           const Tensor& k) override;
  TensorPair attention_weights_backward(const AttentionShape& shape, int64_t context,
                                        const Tensor& q, const Tensor& k, const Tensor& p,
                                        const Tensor& dp) override;
  Tensor attention_mix(const AttentionShape& shape, int64_t context, const Tensor& p,
                       const Tensor& v) override;
  TensorPair attention_mix_backward(const AttentionShape& shape, int64_t context, const Tensor& p,
                                    const Tensor& v, const Tensor& dy) override;

  Tensor fake_quantize_tokens(const Tensor& x, int bits, int64_t segment) override;
  Tensor fake_quantize_tokens_backward(const Tensor& x, int bits, int64_t segment,
                                       const Tensor& dy) override;
  Tensor fake_quantize_weight(const Tensor& w, const Tensor& clip_low, const Tensor& clip_high,
                              const WeightQuantizer& quantizer) override;
  WeightGradient fake_quantize_weight_backward(const Tensor& w, const Tensor& clip_low,
                                               const Tensor& clip_high,
                                               const WeightQuantizer& quantizer,
                                               const Tensor& dy) override;
  Tensor rounded_weight(const Tensor& offsets, const Tensor& scales, const Tensor& zeros,
                        const WeightQuantizer& quantizer) override;
  RoundedWeightGradient rounded_weight_backward(const Tensor& offsets, const Tensor& scales,
                                                const Tensor& zeros,
                                                const WeightQuantizer& quantizer, const Tensor& dy,
                                                bool offsets_wanted) override;
  Tensor affine_weight(const Tensor& w, const Tensor& row_scale, const Tensor& column_scale,
                       const Tensor& a, const Tensor& b) override;
  AffineGradient affine_weight_backward(const Tensor& w, const Tensor& row_scale,
                                        const Tensor& column_scale, const Tensor& a,
                                        const Tensor& b, const Tensor& dy, bool w_wanted) override;

  Tensor mean_cosine(const Tensor& y, const Tensor& target) override;
  Tensor mean_cosine_backward(const Tensor& y, const Tensor& target, const Tensor& dloss) override;
  Tensor mean_squared_error(const Tensor& y, const Tensor& target) override;
  Tensor mean_squared_error_backward(const Tensor& y, const Tensor& target,
                                     const Tensor& dloss) override;
  Tensor symmetric_divergence(const Tensor& p, const Tensor& target) override;
  Tensor symmetric_divergence_backward(const Tensor& p, const Tensor& target,
                                       const Tensor& dloss) override;
  Tensor logit_divergence(const Tensor& y, const Tensor& target) override;
  Tensor logit_divergence_backward(const Tensor& y, const Tensor& target,
                                   const Tensor& dloss) override;

  void adamw(const Tensor& parameter, const Tensor& gradient, const Tensor& mean,
             const Tensor& variance, const AdamW& settings) override;

  std::unique_ptr<CompensatedRounder> create_rounder(int64_t k) override;

 private:
  friend class CpuCompensatedRounder;

  // x^T with rows kRowPadding longer than x has rows.
  Tensor transposed(const Tensor& x);
  // A tensor like `x` of which piece(first, count, y) makes elements first .. first + count - 1.
  template <class Piece>
  Tensor elementwise(const Tensor& x, const Piece& piece);
  // sum[c] = sum over the rows of partial[.., first_col + c], in order.
  void add_rows(const Tensor& partial, int64_t first_col, const Tensor& sum) const;
  // The mean of row(r) over `rows` rows of `cols` elements, as a scalar.
  template <class Row>
  Tensor mean_of_rows(int64_t rows, int64_t cols, const Row& row);

  // out[.., query, key] = a[query] . b[key] for the keys that a query sees, then
  // finish(key_count, seen row) and zeros elsewhere.
  template <class Finish>
  Tensor key_products(const AttentionShape& shape, int64_t context, const Tensor& a,
                      const Tensor& b, const Finish& finish);
  // sum over keys of weights[.., query, key] * x[key]: [batch * context, heads * D].
  Tensor mix_keys(const AttentionShape& shape, int64_t context, const Tensor& weights,
                  const Tensor& x);
  // sum over queries and heads of a group of weights[.., query, key] * x[query]:
  // [batch * context, kv_heads * D].
  Tensor mix_queries(const AttentionShape& shape, int64_t context, const Tensor& weights,
                     const Tensor& x);

  const Kernels& kernels_;
  const TensorKernels& tensor_kernels_;
  CpuDevice device_;
  std::string name_;
  HostMemory memory_;
};

}  // namespace abq::compute
