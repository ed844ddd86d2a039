// The CPU device: cuts each operation into pieces whose bounds depend on the shape only and runs
// the single-threaded kernels of one instruction set level on them.
#pragma once

#include "compute/cpu/kernels.h"
#include "compute/device.h"

namespace abq::compute {

// cos and sin of position * frequencies[j] for j < count, the angle in float64.
void rope_angles(int64_t position, const float* frequencies, int64_t count, float* cosines,
                 float* sines);

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const Kernels& kernels) : kernels_(kernels) {}
  std::string_view name() const override { return "cpu"; }

  void linear(MatrixView<const float> x, const FloatMatrix& w, MatrixView<float> y) const override;
  void linear(MatrixView<const float> x, const WeightSource& w, MatrixView<float> y) const override;
  void matmul(MatrixView<const float> a, MatrixView<const float> b,
              MatrixView<float> c) const override;
  void rms_norm(MatrixView<const float> x, const float* weight, float eps,
                MatrixView<float> y) const override;
  void silu_mul(MatrixView<const float> gate, MatrixView<const float> up,
                MatrixView<float> y) const override;
  void add(MatrixView<const float> a, MatrixView<const float> b,
           MatrixView<float> y) const override;
  void rope(MatrixView<float> x, int head_dim, const int64_t* positions,
            const float* inverse_frequencies) const override;
  void hadamard(MatrixView<float> x, int64_t size, bool transposed) const override;
  void attention(const AttentionShape& shape, MatrixView<const float> q, MatrixView<const float> k,
                 MatrixView<const float> v, int64_t first_query,
                 MatrixView<float> y) const override;

 private:
  // Runs the whole product in tiles; `whole` describes it without scratch.
  void product(const GemmTile& whole) const;
  // Y = X W^T row by row, the weights read from memory once.
  void few_rows(MatrixView<const float> x, const FloatMatrix& w, MatrixView<float> y) const;

  const Kernels& kernels_;
};

}  // namespace abq::compute
