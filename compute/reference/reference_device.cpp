#include "compute/reference/reference_device.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <vector>

#include "compute/hadamard.h"
#include "support/float16.h"
#include "support/parallel.h"

namespace abq::compute {
namespace {

using Eigen::Index;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using View = Eigen::Map<const MatrixF, Eigen::Unaligned, Eigen::OuterStride<>>;
using MutableView = Eigen::Map<MatrixF, Eigen::Unaligned, Eigen::OuterStride<>>;

// Weight rows that exist as float64 at one time.
constexpr int64_t kStripRows = 128;

View view(MatrixView<const float> m) {
  return {m.data, m.rows, m.cols, Eigen::OuterStride<>(m.stride)};
}
MutableView view(MatrixView<float> m) {
  return {m.data, m.rows, m.cols, Eigen::OuterStride<>(m.stride)};
}

double element(const FloatMatrix& w, int64_t index) {
  switch (w.type) {
    case FloatType::kF16:
      return f16_to_float(static_cast<const uint16_t*>(w.data)[index]);
    case FloatType::kBF16:
      return bf16_to_float(static_cast<const uint16_t*>(w.data)[index]);
    case FloatType::kF32:
      break;
  }
  return static_cast<const float*>(w.data)[index];
}

// y = x W^T in strips of W's rows; strip(first, rows) gives W[first .. first + rows - 1, K].
template <class Strip>
void multiply(MatrixView<const float> x, int64_t n, const Strip& strip, MatrixView<float> y) {
  const Matrix left = view(x).cast<double>();
  parallel_for((n + kStripRows - 1) / kStripRows, [&](int64_t i) {
    const int64_t first = i * kStripRows;
    const int64_t rows = std::min(kStripRows, n - first);
    const Matrix w = strip(first, rows);
    const Matrix product = left * w.transpose();
    view(y).middleCols(first, rows) = product.cast<float>();
  });
}

// H_size / sqrt(size), element by element.
Matrix hadamard_matrix(int64_t size) {
  const HadamardFactors& factors = hadamard_factors(size);
  return Matrix::NullaryExpr(size, size, [&](Index r, Index c) {
    return hadamard_entry(factors, r, c) / std::sqrt(static_cast<double>(size));
  });
}

class ReferenceDevice final : public Device {
 public:
  std::string_view name() const override { return "reference"; }

  void linear(MatrixView<const float> x, const FloatMatrix& w, MatrixView<float> y) const override {
    ABQ_CHECK(x.cols == w.cols && y.cols == w.rows && x.rows == y.rows);
    const auto strip = [&](int64_t first, int64_t rows) -> Matrix {
      return Matrix::NullaryExpr(
          rows, w.cols, [&](Index r, Index c) { return element(w, (first + r) * w.cols + c); });
    };
    multiply(x, w.rows, strip, y);
  }

  void linear(MatrixView<const float> x, const WeightSource& w,
              MatrixView<float> y) const override {
    ABQ_CHECK(x.cols == w.cols() && y.cols == w.rows() && x.rows == y.rows);
    // The largest piece that a source gives.
    constexpr int64_t kRows = 32;
    constexpr int64_t kCols = 256;
    const auto strip = [&](int64_t first, int64_t rows) -> Matrix {
      MatrixF values(rows, w.cols());
      for (int64_t r = 0; r < rows; r += kRows) {
        for (int64_t c = 0; c < w.cols(); c += kCols)
          w.read(first + r, std::min(kRows, rows - r), c, std::min(kCols, w.cols() - c),
                 &values(r, c), w.cols());
      }
      return values.cast<double>();
    };
    multiply(x, w.rows(), strip, y);
  }

  void matmul(MatrixView<const float> a, MatrixView<const float> b,
              MatrixView<float> c) const override {
    ABQ_CHECK(a.cols == b.rows && c.cols == b.cols && a.rows == c.rows);
    const Matrix product = view(a).cast<double>() * view(b).cast<double>();
    view(c) = product.cast<float>();
  }

  void rms_norm(MatrixView<const float> x, const float* weight, float eps,
                MatrixView<float> y) const override {
    ABQ_CHECK(x.rows == y.rows && x.cols == y.cols && x.cols > 0);
    const Eigen::ArrayXXd in = view(x).cast<double>().array();
    const Eigen::ArrayXd root = (in.square().rowwise().mean() + static_cast<double>(eps)).sqrt();
    const Eigen::ArrayXd w = Eigen::Map<const Eigen::ArrayXf>(weight, x.cols).cast<double>();
    view(y) = ((in.colwise() / root).rowwise() * w.transpose()).cast<float>().matrix();
  }

  void silu_mul(MatrixView<const float> gate, MatrixView<const float> up,
                MatrixView<float> y) const override {
    ABQ_CHECK(gate.rows == y.rows && up.rows == y.rows && gate.cols == y.cols && up.cols == y.cols);
    const Eigen::ArrayXXd g = view(gate).cast<double>().array();
    const Eigen::ArrayXXd u = view(up).cast<double>().array();
    view(y) = (g / (1.0 + (-g).exp()) * u).cast<float>().matrix();
  }

  void add(MatrixView<const float> a, MatrixView<const float> b,
           MatrixView<float> y) const override {
    ABQ_CHECK(a.rows == y.rows && b.rows == y.rows && a.cols == y.cols && b.cols == y.cols);
    view(y) = view(a) + view(b);
  }

  void rope(MatrixView<float> x, int head_dim, const int64_t* positions,
            const float* inverse_frequencies) const override {
    ABQ_CHECK(head_dim > 0 && head_dim % 2 == 0 && x.cols % head_dim == 0);
    const int64_t half = head_dim / 2;
    const Eigen::ArrayXd frequencies =
        Eigen::Map<const Eigen::ArrayXf>(inverse_frequencies, half).cast<double>();
    for (int64_t r = 0; r < x.rows; ++r) {
      const Eigen::ArrayXd angle = static_cast<double>(positions[r]) * frequencies;
      for (int64_t head = 0; head < x.cols; head += head_dim) {
        Eigen::Map<Eigen::ArrayXf> low(x.row(r) + head, half);
        Eigen::Map<Eigen::ArrayXf> high(x.row(r) + head + half, half);
        const Eigen::ArrayXd a = low.cast<double>();
        const Eigen::ArrayXd b = high.cast<double>();
        low = (a * angle.cos() - b * angle.sin()).cast<float>();
        high = (b * angle.cos() + a * angle.sin()).cast<float>();
      }
    }
  }

  void hadamard(MatrixView<float> x, int64_t size, bool transposed) const override {
    ABQ_CHECK(size > 0 && x.cols % size == 0);
    Matrix h = hadamard_matrix(size);
    if (transposed) h.transposeInPlace();
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t first = 0; first < x.cols; first += size) {
        Eigen::Map<Eigen::VectorXf> segment(x.row(r) + first, size);
        const Eigen::VectorXd in = segment.cast<double>();
        const Eigen::VectorXd out = h * in;
        segment = out.cast<float>();
      }
    }
  }

  void attention(const AttentionShape& shape, MatrixView<const float> q, MatrixView<const float> k,
                 MatrixView<const float> v, int64_t first_query,
                 MatrixView<float> y) const override {
    ABQ_CHECK(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0);
    ABQ_CHECK(q.cols == shape.heads * shape.head_dim && y.cols == q.cols && y.rows == q.rows);
    ABQ_CHECK(k.cols == shape.kv_heads * shape.head_dim && v.cols == k.cols);
    ABQ_CHECK(k.rows == first_query + q.rows && v.rows == k.rows && first_query >= 0);
    const int64_t d = shape.head_dim;
    parallel_for(shape.heads, [&](int64_t head) {
      const int64_t kv_head = head / (shape.heads / shape.kv_heads);
      const Matrix keys = view(k).middleCols(kv_head * d, d).cast<double>();
      const Matrix values = view(v).middleCols(kv_head * d, d).cast<double>();
      for (int64_t r = 0; r < q.rows; ++r) {
        // The keys that this query sees: none after its own position, at most `window` of them.
        const int64_t seen = first_query + r + 1;
        const int64_t count = shape.window > 0 ? std::min(shape.window, seen) : seen;
        const Eigen::VectorXd query = view(q).row(r).segment(head * d, d).cast<double>();
        const Eigen::ArrayXd scores = (keys.middleRows(seen - count, count) * query).array() /
                                      std::sqrt(static_cast<double>(d));
        const Eigen::ArrayXd weights = (scores - scores.maxCoeff()).exp();
        const Eigen::RowVectorXd mix =
            (weights / weights.sum()).matrix().transpose() * values.middleRows(seen - count, count);
        view(y).row(r).segment(head * d, d) = mix.cast<float>();
      }
    });
  }
};

}  // namespace

const Device& reference_device() {
  static const ReferenceDevice device;
  return device;
}

}  // namespace abq::compute
