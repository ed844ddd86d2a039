// What the linears of a device are measured against, on the same device in the same run: the time
// of a read and of the vendor's matrix products.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "support/status.h"

namespace abq::runtime {

class DeviceBaselines {
 public:
  virtual ~DeviceBaselines() = default;

  virtual std::string_view description() const = 0;  // "NVIDIA H200, 132 processors, 60 MB of L2"
  // Microseconds of a kernel that only reads `bytes`, and of y [M, N] = x [M, K] W [N, K]^T with
  // random operands, W cold: medians of graph replays, as KernelTiming's. The products are
  // Unsupported where their library is missing or has no such product.
  virtual Result<double> read_us(int64_t bytes) = 0;
  virtual Result<double> float16_us(int64_t m, int64_t n, int64_t k) = 0;  // cuBLAS, float16 y
  virtual Result<double> int8_us(int64_t m, int64_t n, int64_t k) = 0;     // cuBLASLt, int32 y
};

// The first GPU. The errors of create_cuda_device_engine.
Result<std::unique_ptr<DeviceBaselines>> create_cuda_device_baselines();

}  // namespace abq::runtime
