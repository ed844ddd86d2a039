#include "compute/random_orthogonal.h"

#include <algorithm>
#include <cmath>

#include "support/parallel.h"
#include "support/random.h"
#include "support/status.h"

namespace abq::compute {
namespace {

// Rows that are made orthonormal together: an earlier row comes from memory once for all of them.
constexpr int64_t kBlockRows = 16;
// How the work on a block is cut: earlier rows, and columns of the block's rows.
constexpr int64_t kRowsPerPiece = 64;
constexpr int64_t kColumnsPerPiece = 512;

double dot(const double* a, const double* b, int64_t count) {
  constexpr int kLanes = 8;
  double sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane)
      sums[lane] += a[i + lane] * b[i + lane];
  double sum = 0;
  for (; i < count; ++i)
    sum += a[i] * b[i];
  for (const double lane : sums)
    sum += lane;
  return sum;
}

// The rows of q[size, size] that are orthonormal so far, and those that become it.
class Orthonormalization {
 public:
  Orthonormalization(std::vector<double>& q, int64_t size) : q_(q), size_(size) {}

  void run() {
    for (int64_t first = 0; first < size_; first += kBlockRows) {
      const int64_t last = std::min(first + kBlockRows, size_);
      // Once leaves rounding errors of the size of what was taken away; twice leaves none.
      remove_rows(0, first, first, last);
      remove_rows(0, first, first, last);
      for (int64_t r = first; r < last; ++r) {
        remove_rows(first, r, r, r + 1);
        remove_rows(first, r, r, r + 1);
        const double length = std::sqrt(dot(row(r), row(r), size_));
        std::for_each(row(r), row(r) + size_, [length](double& value) { value /= length; });
      }
    }
  }

 private:
  double* row(int64_t r) { return q_.data() + r * size_; }

  // Takes from rows [first, last) what lies along the orthonormal rows [begin, end).
  void remove_rows(int64_t begin, int64_t end, int64_t first, int64_t last) {
    const int64_t rows = last - first;
    along_.resize(static_cast<size_t>((end - begin) * rows));
    parallel_for((end - begin + kRowsPerPiece - 1) / kRowsPerPiece, [&](int64_t piece) {
      const int64_t from = begin + piece * kRowsPerPiece;
      for (int64_t r = from; r < std::min(from + kRowsPerPiece, end); ++r)
        for (int64_t i = 0; i < rows; ++i)
          along_[static_cast<size_t>((r - begin) * rows + i)] = dot(row(first + i), row(r), size_);
    });
    parallel_for((size_ + kColumnsPerPiece - 1) / kColumnsPerPiece, [&](int64_t piece) {
      const int64_t from = piece * kColumnsPerPiece;
      const int64_t columns = std::min(kColumnsPerPiece, size_ - from);
      for (int64_t r = begin; r < end; ++r) {
        const double* const earlier = row(r) + from;
        for (int64_t i = 0; i < rows; ++i) {
          const double factor = along_[static_cast<size_t>((r - begin) * rows + i)];
          double* const changed = row(first + i) + from;
          for (int64_t c = 0; c < columns; ++c)
            changed[c] -= factor * earlier[c];
        }
      }
    });
  }

  std::vector<double>& q_;
  int64_t size_;
  std::vector<double> along_;
};

}  // namespace

std::vector<float> random_orthogonal(int64_t size, uint64_t seed) {
  ABQ_CHECK(size > 0);
  Random random(seed);
  std::vector<double> q(static_cast<size_t>(size * size));
  for (double& value : q)
    value = random.normal();
  Orthonormalization(q, size).run();
  return {q.begin(), q.end()};
}

}  // namespace abq::compute
