// Dense float math on a device, for the passes, the reference interpreter and the float layers.
//
// One interface, one folder per device: cpu/ is fast, reference/ is the readable truth on Eigen.
// All matrices are row-major float32 unless said otherwise. Every function is deterministic: the
// same bits for any number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::compute {

enum class FloatType { kF32, kF16, kBF16 };
constexpr int64_t float_type_bytes(FloatType type) {
  return type == FloatType::kF32 ? 4 : 2;
}

// A weight matrix W[N, K] in any float type, rows contiguous.
struct FloatMatrix {
  FloatType type = FloatType::kF32;
  const void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
};

// A weight matrix W[N, K] whose values are computed where they are needed, small pieces at a time,
// so that no float copy of W passes through memory (quantized weights).
class WeightSource {
 public:
  // Pieces start at multiples of these, and end at one or at the end of W.
  static constexpr int64_t kRowStep = 4;
  static constexpr int64_t kColStep = 128;

  virtual ~WeightSource() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  // out[r * stride + c] = W[first_row + r, first_col + c] for r < rows and c < cols (at most 32 and
  // 256). Called by several threads at once, and possibly more than once for a piece: the values
  // may depend on nothing else.
  virtual void read(int64_t first_row, int64_t rows, int64_t first_col, int64_t cols, float* out,
                    int64_t stride) const = 0;
};

// Parameters of causal attention with grouped query heads.
struct AttentionShape {
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;
  int64_t window = 0;  // a query sees the last `window` keys (itself included); 0 = all before it
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;

  // Y[M, N] = X[M, K] W[N, K]^T. A row of Y depends on its own row of X alone. For M = 1 the
  // weights are read once, at memory speed, in their own type.
  virtual void linear(MatrixView<const float> x, const FloatMatrix& w,
                      MatrixView<float> y) const = 0;
  // The same product with weights read from a source, once per 140 to 280 rows of X: for many rows.
  virtual void linear(MatrixView<const float> x, const WeightSource& w,
                      MatrixView<float> y) const = 0;
  // C[M, N] = A[M, K] B[K, N].
  virtual void matmul(MatrixView<const float> a, MatrixView<const float> b,
                      MatrixView<float> c) const = 0;

  // y = x / sqrt(mean(x^2) + eps) * weight, per row. x and y may be the same.
  virtual void rms_norm(MatrixView<const float> x, const float* weight, float eps,
                        MatrixView<float> y) const = 0;
  // y = silu(gate) * up, elementwise; silu(v) = v / (1 + exp(-v)).
  virtual void silu_mul(MatrixView<const float> gate, MatrixView<const float> up,
                        MatrixView<float> y) const = 0;
  // y = a + b, elementwise.
  virtual void add(MatrixView<const float> a, MatrixView<const float> b,
                   MatrixView<float> y) const = 0;
  // Rotates each head's pairs (j, j + D/2) of row r by angle positions[r] * inverse_frequencies[j]
  // (RoPE, arXiv 2104.09864, Hugging Face's half-split layout), in place; x is [T, heads * D],
  // inverse_frequencies has D/2 entries.
  virtual void rope(MatrixView<float> x, int head_dim, const int64_t* positions,
                    const float* inverse_frequencies) const = 0;

  // Every `size` consecutive columns of each row become H_size / sqrt(size) times them, or (
  // `transposed`) its transpose times them, in place (compute/hadamard.h); size divides the columns
  // and has a Hadamard matrix. One order of additions: the same bits on every level of the CPU.
  virtual void hadamard(MatrixView<float> x, int64_t size, bool transposed) const = 0;

  // Causal softmax(q k^T / sqrt(D)) v for M query rows at positions first_query .. first_query+M-1
  // over T = first_query + M keys. q and y: [M, heads * D]; k and v: [T, kv_heads * D].
  virtual void attention(const AttentionShape& shape, MatrixView<const float> q,
                         MatrixView<const float> k, MatrixView<const float> v, int64_t first_query,
                         MatrixView<float> y) const = 0;
};

// The CPU device; dispatches on support/cpu_features.h. Lives as long as the process.
const Device& cpu_device();

// out[i] = in[i] as float32.
void to_float(FloatType type, const void* in, int64_t count, float* out);

}  // namespace abq::compute
