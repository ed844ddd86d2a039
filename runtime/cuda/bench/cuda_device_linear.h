// One linear in tiles on the device, with its input in every form that a kernel reads.
#pragma once

#include "runtime/cuda/bench/token_memory.h"
#include "runtime/cuda/device_array.h"
#include "runtime/cuda/linear_kernels.h"
#include "runtime/device_linear.h"

namespace abq::runtime::cuda {

class CudaDeviceLinear final : public DeviceLinear {
 public:
  static Result<std::unique_ptr<CudaDeviceLinear>> create(const StoredWeights& weights,
                                                          int activation_bits);

  std::vector<std::string> kernels(int64_t m) const override;
  Status set_input(MatrixView<const float> x) override;
  Result<quant::QuantizedTokens> input_codes() const override;
  Status run(std::string_view kernel, MatrixView<float> y,
             const MatrixView<const float>* residual) override;
  Status accumulate(std::string_view kernel, std::span<int64_t> sums) override;
  Result<KernelTiming> time(std::string_view kernel) override;

 private:
  CudaDeviceLinear(const TilesPlan& plan, int activation_bits)
      : plan_(plan), activation_bits_(activation_bits) {}

  LinearProblem problem(int64_t m) const;
  // The kernel of that name for the input at hand.
  Result<LinearKernel> find(std::string_view kernel) const;
  // One call on weights that may be a copy of weights_.
  Status enqueue(LinearKernel kernel, const WeightTiles& weights, const LinearOutput& output,
                 cudaStream_t stream);
  // Norm, quantization and packing of the input into the form that `kernel` reads.
  Status enqueue_input(LinearKernel kernel, cudaStream_t stream);
  // Makes copies_ hold enough of the weights to keep the L2 cache cold; [copy] -> view.
  Status make_copies();
  WeightTiles copy(int index) const;

  TilesPlan plan_;
  int activation_bits_ = 16;
  DeviceArray<uint8_t> memory_;
  WeightTiles weights_;
  DeviceArray<uint8_t> copies_;
  int copy_count_ = 0;
  DeviceArray<float> x_;  // [m, k]
  DeviceArray<float> norm_weights_;
  DeviceArray<float> normed_;  // [m, k], A16
  DeviceArray<float> y_;       // [m, n]
  TokenMemory tokens_;
};

}  // namespace abq::runtime::cuda
