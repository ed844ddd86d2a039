#pragma once

#include <string>
#include <utility>

#include "runtime/device_baselines.h"

namespace abq::runtime::cuda {

class CudaBaselines final : public DeviceBaselines {
 public:
  static Result<std::unique_ptr<CudaBaselines>> create();

  std::string_view description() const override { return description_; }
  Result<double> read_us(int64_t bytes) override;
  Result<double> float16_us(int64_t m, int64_t n, int64_t k) override;
  Result<double> int8_us(int64_t m, int64_t n, int64_t k) override;

 private:
  explicit CudaBaselines(std::string description) : description_(std::move(description)) {}

  std::string description_;
};

}  // namespace abq::runtime::cuda
