// Launchers of what works on rows of tokens: embedding, norms, quantization, elementwise, float
// linears, argmax, draws. Everything is enqueued on `stream`, captures into graphs, allocates
// nothing and is deterministic. Float arithmetic follows docs/quantization.md: the codes of a token
// are those of quant::quantize_tokens for the same float32 values, bit by bit.
//
// Matrices are float32 rows `stride` floats apart (stride >= columns).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "compute/device.h"
#include "runtime/cuda/tokens/hadamard_plan.h"
#include "runtime/cuda/views.h"
#include "runtime/token_draw.h"
#include "support/status.h"

namespace abq::runtime::cuda {

struct Rows {
  float* data = nullptr;
  int64_t stride = 0;
  int m = 0;
  int columns = 0;
};
struct ConstRows {
  const float* data = nullptr;
  int64_t stride = 0;
  int m = 0;
  int columns = 0;
  ConstRows() = default;
  ConstRows(const float* values, int64_t row_stride, int rows, int cols)
      : data(values), stride(row_stride), m(rows), columns(cols) {}
  ConstRows(const Rows& rows)  // NOLINT: as pointers convert
      : data(rows.data), stride(rows.stride), m(rows.m), columns(rows.columns) {}
};

// y = row ids[i] of the table, as float32; ids on the device.
Status embed(const compute::FloatMatrix& device_table, const int32_t* ids, const Rows& y,
             cudaStream_t stream);
// y = x / sqrt(mean(x^2) + eps) * weight; weight float32 [columns] on the device.
Status rms_norm(const ConstRows& x, const float* weight, float eps, const Rows& y,
                cudaStream_t stream);
// The same, then quantized; y may be null (data == nullptr) or receives the normalised values too.
Status rms_norm_quantize(const ConstRows& x, const float* weight, float eps, const Rows& y,
                         const TokenTiles& tokens, cudaStream_t stream);
Status quantize(const ConstRows& x, const TokenTiles& tokens, cudaStream_t stream);
Status silu_mul(const ConstRows& gate, const ConstRows& up, const Rows& y, cudaStream_t stream);
// silu(gate) * up, quantized; the product itself is not stored.
Status silu_mul_quantize(const ConstRows& gate, const ConstRows& up, const TokenTiles& tokens,
                         cudaStream_t stream);
Status add(const ConstRows& a, const ConstRows& b, const Rows& y, cudaStream_t stream);
// y = each matrix.size() neighbours of a row times the Hadamard matrix over its root
// (docs/rotation.md), with the bits of compute::Device::hadamard. y may be x, or share nothing with
// it. Unsupported beyond kMaxHadamardSize.
Status hadamard(const ConstRows& x, const HadamardMatrix& matrix, const Rows& y,
                cudaStream_t stream);
// The same, then quantized: in one launch where that is faster (hadamard_row_plan.h), else in two.
// y, which shares nothing with x, receives the transformed values if `keeps_y`; else it is scratch.
Status hadamard_quantize(const ConstRows& x, const HadamardMatrix& matrix, const Rows& y,
                         bool keeps_y, const TokenTiles& tokens, cudaStream_t stream);
// Splits x into float16 pairs (views.h, HalfTokens).
Status split_halves(const ConstRows& x, const HalfTokens& tokens, cudaStream_t stream);

// y = x W^T for float weights on the device, float32 quality: up to 8 tokens by a kernel that reads
// W once at memory speed, more through cuBLAS on x split into parts of W's type. The library is
// opened at the first such call.
class FloatLinear {
 public:
  FloatLinear() = default;
  FloatLinear(const FloatLinear&) = delete;
  FloatLinear& operator=(const FloatLinear&) = delete;
  ~FloatLinear();

  // One float16 product instead, through cuBLAS for any number of tokens: a baseline.
  void set_fast(bool fast);
  // Scratch for the parts of x, for up to `max_m` tokens.
  static int64_t workspace_bytes(int64_t max_m, int64_t k);
  // With `residual`, y = x W^T + residual (may be y).
  Status run(const ConstRows& x, const compute::FloatMatrix& device_weight, const float* residual,
             int64_t residual_stride, const Rows& y, const Workspace& workspace,
             cudaStream_t stream);

 private:
  struct State;
  State* state_ = nullptr;
};

// best[i] = index of the highest value of row i, the first of equals; -1 when a value of the row is
// NaN or infinite.
Status argmax(const ConstRows& x, int32_t* best, cudaStream_t stream);
// ids[i] = a token drawn from the logits of row i as draws[i] says (on the device; values that
// sampler.h's check accepts); -1 when a logit of the row is NaN or infinite. Probabilities are
// whole 2^-40ths of the highest one's.
Status draw_tokens(const ConstRows& logits, const TokenDraw* draws, int32_t* ids,
                   cudaStream_t stream);

}  // namespace abq::runtime::cuda
