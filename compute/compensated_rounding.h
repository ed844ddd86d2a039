// Rounding with error compensation (GPTQ, arXiv 2210.17323): column by column, what rounding one
// weight of a row does to the row's outputs is taken back by the weights that are still float.
// docs/gptq.md has the formulas.
//
// TensorDevice::create_rounder makes one for each input of a layer. The CPU's and CUDA's factor the
// inputs' products once and update columns in blocks of 128; the reference's follows the paper's
// equations 2 and 3 as they stand, in plain loops, and judges the others.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compute/tensor.h"
#include "support/matrix_view.h"
#include "support/status.h"

namespace abq::compute {

// How weights are quantized (docs/quantization.md); the passes translate quant::WeightSpec.
struct WeightQuantizer {
  enum class Kind {
    kAsymmetric,  // range [lo, hi] with zero inside, `levels` levels, rounded zero point
    kSymmetric,   // range [-m, m], m the larger bound; scale = 2 m / steps, zero point `zero`
    kBinary,      // +-mean|w|, no range; clip factors have no effect and gradient zero
  };
  Kind kind = Kind::kAsymmetric;
  int levels = 16;         // codes are 0 .. levels - 1
  int steps = 15;          // symmetric only
  int zero = 8;            // symmetric only
  int64_t group_size = 0;  // inputs that share a scale; 0 = a whole row. Divides K
};

// Where the grid of each row or group comes from, [N, G] row by row: given as it is, or made from
// the range of its weights times given clip factors, or (all empty) times the one factor of 1,
// 0.975, ..., 0.35 for both ends with the least sum |w' - w|^2.4 when rounded to nearest; the first
// one wins. The weights are those of a row as it is or, with groups, those of the group as they are
// when its first column is reached.
struct RoundingGrids {
  std::span<const float> scales;  // with zeros
  std::span<const uint8_t> zeros;
  std::span<const float> clip_low;  // with clip_high, in (0, 1]
  std::span<const float> clip_high;
};

// w[N, K] as codes: scale (code - zero), zero over 2 for binary weights. A loss is the sum of
// (w' - w) H (w' - w)^T over the rows, H = 2 X^T X / tokens: twice the mean squared output error.
struct CompensatedWeights {
  std::vector<uint8_t> codes;    // [N, K]
  std::vector<float> scales;     // [N, G]
  std::vector<uint8_t> zeros;    // [N, G]
  std::vector<float> clip_low;   // [N, G]; 1 where grids were given
  std::vector<float> clip_high;  // [N, G]
  double damping = 0;            // part of H's mean diagonal that was added to it
  double loss = 0;
  double nearest_loss = 0;  // of rounding to nearest by the same way to grids and clip factors
};

// Rounds all layers that read one input of K columns. Its tensors are its device's.
class CompensatedRounder {
 public:
  virtual ~CompensatedRounder() = default;

  // Adds the products of x[tokens, K] to X^T X. Sums over calls are float64.
  virtual void add(const Tensor& x) = 0;
  // The same for products made elsewhere: symmetric, [K, K].
  virtual void add_products(std::span<const double> products, int64_t tokens) = 0;
  // H, [K, K]; NaN after a failure of the device. Zero before any token.
  virtual std::vector<double> hessian() = 0;

  // Without groups columns go by descending diagonal of H, with groups in their own order.
  // InvalidArgument when products are NaN or Inf, when H cannot be factored however much it is
  // damped (0.01 of the mean diagonal, then ten times as much up to 1000), and when the range of
  // compensated weights exceeds float32. Weights must be finite.
  virtual Result<CompensatedWeights> round(MatrixView<const float> w,
                                           const WeightQuantizer& quantizer,
                                           const RoundingGrids& grids) = 0;
};

}  // namespace abq::compute
