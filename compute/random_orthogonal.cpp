#include "compute/random_orthogonal.h"

#include <algorithm>
#include <cmath>

#include "support/parallel.h"
#include "support/random.h"
#include "support/status.h"

namespace abq::compute {
namespace {

// How a Gram-Schmidt step is cut: earlier rows, and columns of the row that it changes.
constexpr int64_t kRowsPerPiece = 64;
constexpr int64_t kColumnsPerPiece = 512;

double dot(const double* a, const double* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i)
    sum += a[i] * b[i];
  return sum;
}

// Takes from row `last` of q[.., size] what lies along the rows before it, which are orthonormal.
void remove_earlier_rows(std::vector<double>& q, int64_t size, int64_t last) {
  double* const row = q.data() + last * size;
  std::vector<double> along(static_cast<size_t>(last));
  parallel_for((last + kRowsPerPiece - 1) / kRowsPerPiece, [&](int64_t piece) {
    const int64_t end = std::min((piece + 1) * kRowsPerPiece, last);
    for (int64_t r = piece * kRowsPerPiece; r < end; ++r)
      along[static_cast<size_t>(r)] = dot(row, q.data() + r * size, size);
  });
  parallel_for((size + kColumnsPerPiece - 1) / kColumnsPerPiece, [&](int64_t piece) {
    const int64_t begin = piece * kColumnsPerPiece;
    const int64_t end = std::min(begin + kColumnsPerPiece, size);
    for (int64_t r = 0; r < last; ++r)
      for (int64_t c = begin; c < end; ++c)
        row[c] -= along[static_cast<size_t>(r)] * q[static_cast<size_t>(r * size + c)];
  });
}

}  // namespace

std::vector<float> random_orthogonal(int64_t size, uint64_t seed) {
  ABQ_CHECK(size > 0);
  Random random(seed);
  std::vector<double> q(static_cast<size_t>(size * size));
  for (double& value : q)
    value = random.normal();
  for (int64_t r = 0; r < size; ++r) {
    // Once leaves rounding errors of the size of what was taken away; twice leaves none.
    remove_earlier_rows(q, size, r);
    remove_earlier_rows(q, size, r);
    double* const row = q.data() + r * size;
    const double length = std::sqrt(dot(row, row, size));
    std::for_each(row, row + size, [length](double& value) { value /= length; });
  }
  return {q.begin(), q.end()};
}

}  // namespace abq::compute
