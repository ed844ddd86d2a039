// The TensorDevice of one NVIDIA GPU: float32 in its memory, our kernels for rows and elements,
// cuBLAS for matrix products.
//
// Everything is enqueued on one stream. The host waits in download() and status(), in upload()
// while both staging buffers travel, and where the pool takes memory from the driver or gives it
// back. After the first failure nothing is launched any more, and tensors point to memory that
// nobody reads.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <source_location>
#include <string>
#include <utility>

#include "compute/cuda/attention_kernels.h"
#include "compute/cuda/block_pool.h"
#include "compute/cuda/cublas_library.h"
#include "compute/cuda/cusolver_library.h"
#include "compute/cuda/pinned_staging.h"
#include "compute/tensor_device.h"

namespace abq::compute::cuda {

struct AttentionLayout;

class CudaTensorDevice final : public TensorDevice {
 public:
  // On the first device. Unsupported says what is missing, Device what failed.
  static Result<std::unique_ptr<CudaTensorDevice>> create();
  CudaTensorDevice(const CudaTensorDevice&) = delete;
  CudaTensorDevice& operator=(const CudaTensorDevice&) = delete;
  ~CudaTensorDevice() override;

  std::string_view name() const override { return name_; }
  std::string description() const override { return description_; }
  bool on_host() const override { return false; }
  Status status() override;
  int64_t free_bytes() const override;
  int64_t peak_bytes() const override { return pool_->peak_bytes(); }

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
  friend class CudaCompensatedRounder;
  using Where = std::source_location;

  CudaTensorDevice();
  Status open();

  // Calls `launch`, unless something failed before, and asks what became of it. `result` is named
  // in the error.
  template <class Launch>
  void run(const char* function, const Tensor& result, Launch&& launch,
           const Where& where = Where::current()) {
    if (!status_.ok()) return;
    launch();
    check(function, result, cudaPeekAtLastError(), where);
  }
  void check(const char* function, const Tensor& result, cudaError_t error, const Where& where);
  void multiply(const char* function, const Product& product, const Tensor& a, const Tensor& b,
                const Tensor& c, const Where& where = Where::current());

  // The products of attention (attention_products.cpp). x is a matrix of query heads, y one of
  // key-value heads, p the weights between them; only blocks with seen keys are touched.
  // p = alpha x y^T
  void multiply_scores(const AttentionLayout& layout, float alpha, const Tensor& x, const Tensor& y,
                       const Tensor& p);
  // x = p y
  void multiply_mix(const AttentionLayout& layout, const Tensor& p, const Tensor& y,
                    const Tensor& x);
  // y = the sum of p^T x over the query heads of each key-value head, in their order
  void multiply_gather(const AttentionLayout& layout, const Tensor& p, const Tensor& x,
                       const Tensor& y);
  void multiply_heads(const Product& product, const HeadMatrices& a, const HeadMatrices& b,
                      const HeadMatrices& c, int64_t batch, int64_t heads,
                      const Where& where = Where::current());

  Status status_;
  std::string name_;
  std::string description_;
  cudaStream_t stream_ = nullptr;
  std::shared_ptr<BlockPool> pool_;
  std::shared_ptr<void> nowhere_;  // what tensors point to after a failure
  PinnedStaging staging_;
  std::unique_ptr<Cublas> cublas_;
  std::unique_ptr<Cusolver> cusolver_;  // made with the first rounder
  // The small matrices of hadamard(), by size and side; made at the first use.
  std::map<std::pair<int64_t, bool>, Tensor> hadamard_mixes_;
};

}  // namespace abq::compute::cuda
