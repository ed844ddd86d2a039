#include "compute/reference/reference_tensor_device.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include "compute/tensor_checks.h"

namespace abq::compute {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::Map<Matrix> view(const Tensor& x) {
  return {x.as<double>(), x.rows(), x.cols()};
}

double logistic(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

}  // namespace

std::unique_ptr<TensorDevice> create_reference_tensor_device() {
  return std::make_unique<ReferenceTensorDevice>();
}

// ---- Memory

Tensor ReferenceTensorDevice::allocate(int64_t rows, int64_t cols) {
  return memory_.allocate(rows, cols, sizeof(double));
}

Tensor ReferenceTensorDevice::filled(int64_t rows, int64_t cols, float value) {
  return make(rows, cols, [&](int64_t, int64_t) { return static_cast<double>(value); });
}

Tensor ReferenceTensorDevice::upload(std::span<const float> values, int64_t rows, int64_t cols) {
  ABQ_CHECK(static_cast<int64_t>(values.size()) == rows * cols);
  return make(rows, cols, [&](int64_t r, int64_t c) {
    return static_cast<double>(values[static_cast<size_t>(r * cols + c)]);
  });
}

void ReferenceTensorDevice::download(const Tensor& x, std::span<float> values) {
  ABQ_CHECK(static_cast<int64_t>(values.size()) == x.size());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = memory_.failed() ? std::numeric_limits<float>::quiet_NaN()
                                 : static_cast<float>(at(x, static_cast<int64_t>(i)));
  }
}

Tensor ReferenceTensorDevice::copy(const Tensor& x) {
  return make(x.rows(), x.cols(), [&](int64_t r, int64_t c) { return at(x, r, c); });
}

void ReferenceTensorDevice::assign(const Tensor& to, const Tensor& from) {
  ABQ_CHECK(to.size() == from.size());
  if (!memory_.failed()) std::copy_n(from.as<double>(), from.size(), to.as<double>());
}

// ---- Matrix products

Tensor ReferenceTensorDevice::linear(const Tensor& x, const Tensor& w) {
  ABQ_CHECK(x.cols() == w.cols());
  Tensor y = allocate(x.rows(), w.rows());
  if (!memory_.failed()) view(y) = view(x) * view(w).transpose();
  return y;
}

Tensor ReferenceTensorDevice::matmul(const Tensor& a, const Tensor& b) {
  ABQ_CHECK(a.cols() == b.rows());
  Tensor c = allocate(a.rows(), b.cols());
  if (!memory_.failed()) view(c) = view(a) * view(b);
  return c;
}

Tensor ReferenceTensorDevice::transposed_matmul(const Tensor& a, const Tensor& b) {
  ABQ_CHECK(a.rows() == b.rows());
  Tensor c = allocate(a.cols(), b.cols());
  if (!memory_.failed()) view(c) = view(a).transpose() * view(b);
  return c;
}

// ---- Elementwise

Tensor ReferenceTensorDevice::add(const Tensor& a, const Tensor& b) {
  check_same_shape(a, b);
  return make(a.rows(), a.cols(), [&](int64_t r, int64_t c) { return at(a, r, c) + at(b, r, c); });
}

Tensor ReferenceTensorDevice::multiply(const Tensor& a, const Tensor& b) {
  check_same_shape(a, b);
  return make(a.rows(), a.cols(), [&](int64_t r, int64_t c) { return at(a, r, c) * at(b, r, c); });
}

void ReferenceTensorDevice::accumulate(const Tensor& sum, const Tensor& x, float factor) {
  ABQ_CHECK(sum.size() == x.size());
  if (memory_.failed()) return;
  for (int64_t i = 0; i < x.size(); ++i)
    at(sum, i) += static_cast<double>(factor) * at(x, i);
}

Tensor ReferenceTensorDevice::silu_mul(const Tensor& gate, const Tensor& up) {
  check_same_shape(gate, up);
  return make(gate.rows(), gate.cols(), [&](int64_t r, int64_t c) {
    return at(gate, r, c) * logistic(at(gate, r, c)) * at(up, r, c);
  });
}

TensorPair ReferenceTensorDevice::silu_mul_backward(const Tensor& gate, const Tensor& up,
                                                    const Tensor& dy) {
  check_same_shape(gate, up);
  check_same_shape(gate, dy);
  // d/dg g s(g) = s + g s (1 - s)
  const Tensor dgate = make(gate.rows(), gate.cols(), [&](int64_t r, int64_t c) {
    const double g = at(gate, r, c), s = logistic(g);
    return at(dy, r, c) * at(up, r, c) * (s + g * s * (1.0 - s));
  });
  const Tensor dup = make(gate.rows(), gate.cols(), [&](int64_t r, int64_t c) {
    const double g = at(gate, r, c);
    return at(dy, r, c) * g * logistic(g);
  });
  return {dgate, dup};
}

Tensor ReferenceTensorDevice::sigmoid(const Tensor& x) {
  return make(x.rows(), x.cols(), [&](int64_t r, int64_t c) { return logistic(at(x, r, c)); });
}

Tensor ReferenceTensorDevice::sigmoid_backward(const Tensor& y, const Tensor& dy) {
  check_same_shape(y, dy);
  return make(y.rows(), y.cols(), [&](int64_t r, int64_t c) {
    return at(dy, r, c) * at(y, r, c) * (1.0 - at(y, r, c));
  });
}

Tensor ReferenceTensorDevice::reciprocal(const Tensor& x) {
  return make(x.rows(), x.cols(), [&](int64_t r, int64_t c) { return 1.0 / at(x, r, c); });
}

Tensor ReferenceTensorDevice::reciprocal_backward(const Tensor& y, const Tensor& dy) {
  check_same_shape(y, dy);
  return make(y.rows(), y.cols(),
              [&](int64_t r, int64_t c) { return -at(dy, r, c) * at(y, r, c) * at(y, r, c); });
}

Tensor ReferenceTensorDevice::away_from_zero(const Tensor& x, float minimum) {
  return make(x.rows(), x.cols(), [&](int64_t r, int64_t c) {
    const double v = at(x, r, c), bound = static_cast<double>(minimum);
    if (std::abs(v) < bound) return v < 0.0 ? -bound : bound;
    return v;
  });
}

Tensor ReferenceTensorDevice::negative_log_abs(const Tensor& x) {
  return make(x.rows(), x.cols(),
              [&](int64_t r, int64_t c) { return -std::log(std::abs(at(x, r, c))); });
}

Tensor ReferenceTensorDevice::negative_log_abs_backward(const Tensor& x, const Tensor& dy) {
  check_same_shape(x, dy);
  return make(x.rows(), x.cols(),
              [&](int64_t r, int64_t c) { return -at(dy, r, c) / at(x, r, c); });
}

// ---- Rows

Tensor ReferenceTensorDevice::rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  check_rms_norm(x, weight);
  Tensor y = allocate(x.rows(), x.cols());
  if (memory_.failed()) return y;
  for (int64_t r = 0; r < x.rows(); ++r) {
    const double root = std::sqrt(view(x).row(r).squaredNorm() / static_cast<double>(x.cols()) +
                                  static_cast<double>(eps));
    for (int64_t c = 0; c < x.cols(); ++c)
      at(y, r, c) = at(x, r, c) / root * at(weight, c);
  }
  return y;
}

TensorPair ReferenceTensorDevice::rms_norm_backward(const Tensor& x, const Tensor& weight,
                                                    float eps, const Tensor& dy) {
  check_rms_norm(x, weight);
  check_same_shape(x, dy);
  const Tensor dx = zeros_like(x), dweight = zeros_like(weight);
  if (memory_.failed()) return {dx, dweight};
  // y_c = x_c w_c / root; d root / d x_k = x_k / (C root).
  for (int64_t r = 0; r < x.rows(); ++r) {
    const double count = static_cast<double>(x.cols());
    const double root = std::sqrt(view(x).row(r).squaredNorm() / count + static_cast<double>(eps));
    double droot = 0;
    for (int64_t c = 0; c < x.cols(); ++c) {
      at(dweight, c) += at(dy, r, c) * at(x, r, c) / root;
      droot -= at(dy, r, c) * at(x, r, c) * at(weight, c) / (root * root);
    }
    for (int64_t c = 0; c < x.cols(); ++c)
      at(dx, r, c) = at(dy, r, c) * at(weight, c) / root + droot * at(x, r, c) / (count * root);
  }
  return {dx, dweight};
}

Tensor ReferenceTensorDevice::rope(const Tensor& x, int head_dim, int64_t context,
                                   const Tensor& frequencies, bool inverse) {
  check_rope(x, head_dim, context, frequencies);
  const int64_t half = head_dim / 2;
  return make(x.rows(), x.cols(), [&](int64_t r, int64_t c) {
    const int64_t j = c % head_dim;
    const double position = static_cast<double>(r % context);
    const double angle = (inverse ? -position : position) * at(frequencies, j % half);
    const double partner = j < half ? -at(x, r, c + half) : at(x, r, c - half);
    return at(x, r, c) * std::cos(angle) + partner * std::sin(angle);
  });
}

Tensor ReferenceTensorDevice::hadamard(const Tensor& x, int64_t size, bool transposed) {
  check_hadamard(x, size);
  const HadamardFactors& factors = hadamard_factors(size);
  return make(x.rows(), x.cols(), [&](int64_t r, int64_t c) {
    const int64_t first = c / size * size;
    double sum = 0;
    for (int64_t i = 0; i < size; ++i) {
      const double entry = transposed ? hadamard_entry(factors, i, c - first)
                                      : hadamard_entry(factors, c - first, i);
      sum += entry * at(x, r, first + i);
    }
    return sum / std::sqrt(static_cast<double>(size));
  });
}

Tensor ReferenceTensorDevice::repeat(const Tensor& x, int64_t inner, int64_t count) {
  check_repeat(x, inner, count);
  return make(1, x.size() * count,
              [&](int64_t, int64_t i) { return at(x, i / (inner * count) * inner + i % inner); });
}

Tensor ReferenceTensorDevice::repeat_backward(const Tensor& dy, int64_t inner, int64_t count) {
  check_repeat_backward(dy, inner, count);
  return make(1, dy.size() / count, [&](int64_t, int64_t i) {
    double sum = 0;
    for (int64_t r = 0; r < count; ++r)
      sum += at(dy, (i / inner * count + r) * inner + i % inner);
    return sum;
  });
}

Tensor ReferenceTensorDevice::column_statistics(const Tensor& x) {
  check_column_statistics(x);
  Tensor y = allocate(3, x.cols());
  if (memory_.failed()) return y;
  view(y).row(0) = view(x).row(0);
  view(y).row(1) = view(x).row(0);
  view(y).row(2) = view(x).colwise().squaredNorm();
  for (int64_t r = 1; r < x.rows(); ++r) {
    for (int64_t c = 0; c < x.cols(); ++c) {
      const double v = at(x, r, c);
      if (v < at(y, 0, c) || std::isnan(v)) at(y, 0, c) = v;
      if (v > at(y, 1, c) || std::isnan(v)) at(y, 1, c) = v;
    }
  }
  return y;
}

// ---- Optimizer

void ReferenceTensorDevice::adamw(const Tensor& parameter, const Tensor& gradient,
                                  const Tensor& mean, const Tensor& variance,
                                  const AdamW& settings) {
  check_adamw(parameter, gradient, mean, variance, settings);
  if (memory_.failed()) return;
  const double step = static_cast<double>(settings.step);
  for (int64_t i = 0; i < parameter.size(); ++i) {
    const double g = at(gradient, i);
    at(mean, i) = settings.beta1 * at(mean, i) + (1 - settings.beta1) * g;
    at(variance, i) = settings.beta2 * at(variance, i) + (1 - settings.beta2) * g * g;
    const double m = at(mean, i) / (1 - std::pow(settings.beta1, step));
    const double v = at(variance, i) / (1 - std::pow(settings.beta2, step));
    at(parameter, i) -= settings.rate * (m / (std::sqrt(v) + settings.epsilon) +
                                         settings.weight_decay * at(parameter, i));
  }
}

}  // namespace abq::compute
