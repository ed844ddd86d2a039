// The orthogonal matrix Q by which the residual stream is turned: rows r of the stream become r Q.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quant/recipe.h"
#include "support/matrix_view.h"

namespace abq::passes {

class Rotation {
 public:
  // kHadamard: Q = D H^T / sqrt(n) with random signs D on the diagonal and the Hadamard matrix H of
  // the size, or kOrthogonal where the size has none. kOrthogonal: uniformly random. kNone: Q = I.
  Rotation(quant::ResidualRotation kind, int64_t size, uint64_t seed);

  int64_t size() const { return size_; }
  bool is_identity() const { return kind_ == quant::ResidualRotation::kNone; }
  // "hadamard 12 x 32 with random signs", "random orthogonal", "none".
  std::string description() const;

  // w[.., size] = w Q: what the stream's readers and the rows of an embedding become.
  void rotate_columns(MatrixView<float> w) const;
  // w[size, ..] = Q^T w: what the stream's writers become.
  void rotate_rows(MatrixView<float> w) const;

 private:
  quant::ResidualRotation kind_;
  int64_t size_;
  std::vector<float> signs_;   // kHadamard
  std::vector<float> matrix_;  // kOrthogonal, Q
};

// w[N, K] = w with the Hadamard transform of `size` over the columns or rows: what a linear becomes
// when its input is transformed, or for its output to be.
void transform_columns(MatrixView<float> w, int64_t size);
void transform_rows(MatrixView<float> w, int64_t size);

}  // namespace abq::passes
