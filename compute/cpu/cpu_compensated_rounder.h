// Rounding with error compensation on the CPU: products of chunks of tokens by the float32 kernels,
// sums of chunks and all that follows in float64 (Eigen factors), bands of columns and rows in
// parallel.
#pragma once

#include <map>
#include <vector>

#include "compute/cpu/cpu_tensor_device.h"
#include "compute/rounding_order.h"

namespace abq::compute {

class CpuCompensatedRounder final : public CompensatedRounder {
 public:
  CpuCompensatedRounder(CpuTensorDevice& device, int64_t k);

  void add(const Tensor& x) override;
  void add_products(std::span<const double> products, int64_t tokens) override;
  std::vector<double> hessian() override;
  Result<CompensatedWeights> round(MatrixView<const float> w, const WeightQuantizer& quantizer,
                                   const RoundingGrids& grids) override;

 private:
  // The order of columns and the upper factor U of the damped inverse in it, U^T U = H^-1.
  struct Factor {
    RoundingOrder order;
    double damping = 0;
    std::vector<double> added;  // to H's diagonal, by column
    std::vector<double> upper;  // [K, K]; nothing below the diagonal is read
  };

  void add_chunk(const Tensor& x);
  double element(int64_t i, int64_t j) const;  // of H
  Result<const Factor*> factor(bool by_diagonal);
  double nearest_loss(MatrixView<const float> w, const WeightQuantizer& quantizer,
                      const RoundingGrids& grids, CompensatedWeights& weights);

  CpuTensorDevice& device_;
  int64_t k_;
  int64_t tokens_ = 0;
  std::vector<double> sums_;        // X^T X; only j >= i is kept
  std::map<bool, Factor> factors_;  // by whether columns go by their diagonal
};

}  // namespace abq::compute
