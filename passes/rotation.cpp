#include "passes/rotation.h"

#include <fmt/format.h>

#include <algorithm>

#include "compute/device.h"
#include "compute/hadamard.h"
#include "compute/random_orthogonal.h"
#include "support/random.h"
#include "support/status.h"

namespace abq::passes {
namespace {

using Kind = quant::ResidualRotation;

// Rows that are multiplied by a dense matrix at a time.
constexpr int64_t kRowsAtATime = 1024;
// Side of the squares in which matrices are transposed.
constexpr int64_t kSquare = 32;

// change(w^T), transposed back.
template <class Change>
void on_transposed(MatrixView<float> w, const Change& change) {
  std::vector<float> turned(static_cast<size_t>(w.rows * w.cols));
  const auto for_elements = [&](const auto& body) {
    for (int64_t r0 = 0; r0 < w.rows; r0 += kSquare)
      for (int64_t c0 = 0; c0 < w.cols; c0 += kSquare)
        for (int64_t r = r0; r < std::min(r0 + kSquare, w.rows); ++r)
          for (int64_t c = c0; c < std::min(c0 + kSquare, w.cols); ++c)
            body(w.row(r)[c], turned[static_cast<size_t>(c * w.rows + r)]);
  };
  for_elements([](const float& from, float& to) { to = from; });
  change(MatrixView<float>(turned.data(), w.cols, w.rows));
  for_elements([](float& to, const float& from) { to = from; });
}

}  // namespace

Rotation::Rotation(Kind kind, int64_t size, uint64_t seed) : kind_(kind), size_(size) {
  if (kind_ == Kind::kHadamard && !compute::has_hadamard(size)) kind_ = Kind::kOrthogonal;
  if (kind_ == Kind::kOrthogonal) matrix_ = compute::random_orthogonal(size, seed);
  if (kind_ == Kind::kHadamard) {
    Random random(seed);
    signs_.resize(static_cast<size_t>(size));
    for (float& sign : signs_)
      sign = random.uniform() < 0.5 ? -1.0f : 1.0f;
  }
}

std::string Rotation::description() const {
  switch (kind_) {
    case Kind::kNone:
      return "none";
    case Kind::kOrthogonal:
      return "random orthogonal";
    case Kind::kHadamard:
      break;
  }
  const compute::HadamardFactors& factors = compute::hadamard_factors(size_);
  return fmt::format("hadamard {} x {} with random signs", factors.order, factors.length);
}

void Rotation::rotate_columns(MatrixView<float> w) const {
  ABQ_CHECK(w.cols == size_);
  if (kind_ == Kind::kHadamard) {
    for (int64_t r = 0; r < w.rows; ++r)
      for (int64_t c = 0; c < w.cols; ++c)
        w.row(r)[c] *= signs_[static_cast<size_t>(c)];
    compute::cpu_device().hadamard(w, size_, false);
  } else if (kind_ == Kind::kOrthogonal) {
    const MatrixView<const float> q(matrix_.data(), size_, size_);
    std::vector<float> product(static_cast<size_t>(std::min(kRowsAtATime, w.rows) * size_));
    for (int64_t first = 0; first < w.rows; first += kRowsAtATime) {
      const int64_t rows = std::min(kRowsAtATime, w.rows - first);
      const MatrixView<float> strip(w.row(first), rows, w.cols, w.stride);
      const MatrixView<float> turned(product.data(), rows, size_);
      compute::cpu_device().matmul(strip, q, turned);
      for (int64_t r = 0; r < rows; ++r)
        std::copy_n(turned.row(r), size_, strip.row(r));
    }
  }
}

void Rotation::rotate_rows(MatrixView<float> w) const {
  if (is_identity()) return;
  // (Q^T w)^T = w^T Q.
  on_transposed(w, [&](MatrixView<float> turned) { rotate_columns(turned); });
}

void transform_columns(MatrixView<float> w, int64_t size) {
  compute::cpu_device().hadamard(w, size, false);
}

void transform_rows(MatrixView<float> w, int64_t size) {
  on_transposed(w, [&](MatrixView<float> turned) { transform_columns(turned, size); });
}

}  // namespace abq::passes
