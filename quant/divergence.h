// Distance of two next-token distributions, measured one way everywhere.
#pragma once

#include <cstdint>
#include <span>

#include "support/matrix_view.h"

namespace abq::quant {

// Sums over positions.
struct Divergence {
  double kl = 0;  // KL(reference || other), nats
  int64_t same_top = 0;
  int64_t positions = 0;

  void add(const Divergence& other) {
    kl += other.kl;
    same_top += other.same_top;
    positions += other.positions;
  }
  double mean_kl() const { return positions == 0 ? 0 : kl / static_cast<double>(positions); }
};

// From float32 logits over one vocabulary, in float64: of one position, and of all rows of two
// matrices of one shape, added up in their order.
Divergence compare_logits(std::span<const float> reference, std::span<const float> other);
Divergence compare_logits(MatrixView<const float> reference, MatrixView<const float> other);

}  // namespace abq::quant
