// One quantized linear on a device whose code lives in a library of its own, kernel by kernel: what
// tests compare with the reference and `abq bench --kernels` times.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quant/affine.h"
#include "runtime/stored_weights.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::runtime {

// Microseconds of one call, medians of graph replays.
struct KernelTiming {
  double cold_us = 0;        // weights rotated over more than twice the L2 cache
  double warm_us = 0;        // the same weights again and again
  double pair_us = 0;        // cold, with the RMS norm, quantization and packing of its input
  int64_t weight_bytes = 0;  // that the kernel reads: tiles, scales, zero points, sums
};

class DeviceLinear {
 public:
  virtual ~DeviceLinear() = default;

  // Names of the kernels that can run m tokens, the one that the engine would choose first:
  // "cuda.bits", "cuda.bytes", "cuda.bytes_wgmma", "cuda.bits_wgmma", "cuda.half".
  virtual std::vector<std::string> kernels(int64_t m) const = 0;
  // Quantizes x [M, K] on the device (or splits it into halves for A16) and keeps it as input.
  virtual Status set_input(MatrixView<const float> x) = 0;
  // The tokens that set_input() made, read back: must equal quant::quantize_tokens.
  virtual Result<quant::QuantizedTokens> input_codes() const = 0;
  // y [M, N]; with `residual` [M, N], y = product + residual.
  virtual Status run(std::string_view kernel, MatrixView<float> y,
                     const MatrixView<const float>* residual = nullptr) = 0;
  // sums [M, N, G]: sum over k of qx qw per group, as the kernel of run() computes them.
  virtual Status accumulate(std::string_view kernel, std::span<int64_t> sums) = 0;
  virtual Result<KernelTiming> time(std::string_view kernel) = 0;
};

// Weights on the first GPU, in tiles. The errors of create_cuda_device_engine, and those of the
// weights (Corrupt, InvalidArgument).
Result<std::unique_ptr<DeviceLinear>> create_cuda_device_linear(const StoredWeights& weights,
                                                                int activation_bits);

}  // namespace abq::runtime
