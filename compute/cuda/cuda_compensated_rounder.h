// Rounding with error compensation on a GPU, all of it in float64: products and updates of columns
// by cuBLAS, the factor by cuSOLVER, clip search and blocks of columns by our kernels. The host
// chooses the order of columns and the damping.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compute/cuda/cuda_tensor_device.h"
#include "compute/cuda/rounding_kernels.h"
#include "compute/rounding_order.h"

namespace abq::compute::cuda {

class CudaCompensatedRounder final : public CompensatedRounder {
 public:
  CudaCompensatedRounder(CudaTensorDevice& device, int64_t k);

  void add(const Tensor& x) override;
  void add_products(std::span<const double> products, int64_t tokens) override;
  std::vector<double> hessian() override;
  Result<CompensatedWeights> round(MatrixView<const float> w, const WeightQuantizer& quantizer,
                                   const RoundingGrids& grids) override;

 private:
  // As in compute/cpu/cpu_compensated_rounder.h, U and what goes by position in device memory.
  struct Factor {
    double damping = 0;
    Tensor columns;  // int32
    Tensor upper;    // float64
    Tensor added;    // float64, by position
  };
  // One layer on the device.
  struct Layer {
    int64_t n = 0;
    int64_t group = 0;  // 0: whole rows
    int64_t groups = 1;
    GridRule rule;
    Tensor w;
    Tensor scales, zeros, clip_low, clip_high;  // [N, G]
    Tensor codes;                               // bytes
    Tensor losses;                              // float64 [N]

    GridTable table() const;
  };

  Tensor doubles(int64_t count);
  double factor() const { return tokens_ > 0 ? 2.0 / static_cast<double>(tokens_) : 0.0; }
  Status prepare_solver();
  Result<const Factor*> factor_for(bool by_diagonal);
  // U of the damped H; false when it is not positive definite.
  Result<bool> factorize(const Tensor& columns, const Tensor& diagonal, double added,
                         Tensor& upper);
  Layer make_layer(MatrixView<const float> w, const WeightQuantizer& quantizer,
                   const RoundingGrids& grids);
  void round_all(const Factor& factor, const Layer& layer);
  double nearest_loss(const Layer& layer);
  void keep(const Status& status);  // the first failure becomes the device's

  CudaTensorDevice& device_;
  int64_t k_;
  int64_t tokens_ = 0;
  Tensor sums_;  // float64 X^T X; only columns >= row are kept
  std::map<bool, Factor> factors_;
};

}  // namespace abq::compute::cuda
