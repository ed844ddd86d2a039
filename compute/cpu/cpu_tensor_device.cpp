#include "compute/cpu/cpu_tensor_device.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "compute/cpu/pieces.h"
#include "compute/tensor_checks.h"

namespace abq::compute {
namespace {

// Rows and columns that one piece of a transposition takes: both sides fit the first-level cache.
constexpr int64_t kTransposeRows = 64;
constexpr int64_t kTransposeCols = 32;

template <class Body>
void for_element_pieces(int64_t size, const Body& body) {
  parallel_for(divide_up(size, kElementsPerPiece), [&](int64_t i) {
    const int64_t first = i * kElementsPerPiece;
    body(first, std::min(kElementsPerPiece, size - first));
  });
}

MatrixView<float> view(const Tensor& x) {
  return {x.as<float>(), x.rows(), x.cols()};
}

}  // namespace

CpuTensorDevice::CpuTensorDevice(CpuIsa isa)
    : kernels_(*kernels_for(isa)),
      tensor_kernels_(*kernels_.tensor),
      device_(kernels_),
      name_("cpu-" + std::string(cpu_isa_name(isa))) {}

std::unique_ptr<TensorDevice> create_cpu_tensor_device() {
  return std::make_unique<CpuTensorDevice>(cpu_isa());
}

Tensor CpuTensorDevice::allocate(int64_t rows, int64_t cols) {
  return memory_.allocate(rows, cols, sizeof(float));
}

template <class Piece>
Tensor CpuTensorDevice::elementwise(const Tensor& x, const Piece& piece) {
  Tensor y = allocate(x.rows(), x.cols());
  if (memory_.failed()) return y;
  for_element_pieces(
      y.size(), [&](int64_t first, int64_t count) { piece(first, count, y.as<float>() + first); });
  return y;
}

Tensor CpuTensorDevice::filled(int64_t rows, int64_t cols, float value) {
  Tensor x = allocate(rows, cols);
  if (!memory_.failed()) std::fill_n(x.as<float>(), x.size(), value);
  return x;
}

Tensor CpuTensorDevice::upload(std::span<const float> values, int64_t rows, int64_t cols) {
  ABQ_CHECK(static_cast<int64_t>(values.size()) == rows * cols);
  Tensor x = allocate(rows, cols);
  if (!memory_.failed()) std::copy(values.begin(), values.end(), x.as<float>());
  return x;
}

void CpuTensorDevice::download(const Tensor& x, std::span<float> values) {
  ABQ_CHECK(static_cast<int64_t>(values.size()) == x.size());
  if (memory_.failed()) {
    std::fill(values.begin(), values.end(), std::numeric_limits<float>::quiet_NaN());
  } else {
    std::copy_n(x.as<float>(), x.size(), values.begin());
  }
}

Tensor CpuTensorDevice::copy(const Tensor& x) {
  return elementwise(x, [&](int64_t first, int64_t count, float* y) {
    std::copy_n(x.as<float>() + first, count, y);
  });
}

void CpuTensorDevice::assign(const Tensor& to, const Tensor& from) {
  ABQ_CHECK(to.size() == from.size());
  if (memory_.failed()) return;
  std::memmove(to.data(), from.data(), static_cast<size_t>(from.bytes()));
}

Tensor CpuTensorDevice::linear(const Tensor& x, const Tensor& w) {
  ABQ_CHECK(x.cols() == w.cols());
  Tensor y = allocate(x.rows(), w.rows());
  if (memory_.failed()) return y;
  device_.linear(view(x), {FloatType::kF32, w.data(), w.rows(), w.cols()}, view(y));
  return y;
}

Tensor CpuTensorDevice::matmul(const Tensor& a, const Tensor& b) {
  ABQ_CHECK(a.cols() == b.rows());
  Tensor c = allocate(a.rows(), b.cols());
  if (!memory_.failed()) device_.matmul(view(a), view(b), view(c));
  return c;
}

Tensor CpuTensorDevice::transposed(const Tensor& x) {
  const int64_t stride = x.rows() + kRowPadding;
  Tensor turned = allocate(x.cols(), stride);
  if (memory_.failed()) return turned;
  const int64_t bands = divide_up(x.cols(), kTransposeCols);
  parallel_for(bands * divide_up(x.rows(), kTransposeRows), [&](int64_t i) {
    const int64_t row = i / bands * kTransposeRows, col = i % bands * kTransposeCols;
    tensor_kernels_.transpose(
        x.as<float>() + row * x.cols() + col, x.cols(), std::min(kTransposeRows, x.rows() - row),
        std::min(kTransposeCols, x.cols() - col), turned.as<float>() + col * stride + row, stride);
  });
  return turned;
}

Tensor CpuTensorDevice::transposed_matmul(const Tensor& a, const Tensor& b) {
  ABQ_CHECK(a.rows() == b.rows());
  const Tensor turned = transposed(a);
  Tensor c = allocate(a.cols(), b.cols());
  if (memory_.failed()) return c;
  device_.matmul({turned.as<float>(), a.cols(), a.rows(), turned.cols()}, view(b), view(c));
  return c;
}

Tensor CpuTensorDevice::add(const Tensor& a, const Tensor& b) {
  check_same_shape(a, b);
  return elementwise(a, [&](int64_t first, int64_t count, float* y) {
    kernels_.add(a.as<float>() + first, b.as<float>() + first, count, y);
  });
}

Tensor CpuTensorDevice::multiply(const Tensor& a, const Tensor& b) {
  check_same_shape(a, b);
  return elementwise(a, [&](int64_t first, int64_t count, float* y) {
    tensor_kernels_.multiply(a.as<float>() + first, b.as<float>() + first, count, y);
  });
}

void CpuTensorDevice::accumulate(const Tensor& sum, const Tensor& x, float factor) {
  ABQ_CHECK(sum.size() == x.size());
  if (memory_.failed()) return;
  for_element_pieces(x.size(), [&](int64_t first, int64_t count) {
    tensor_kernels_.accumulate(x.as<float>() + first, factor, count, sum.as<float>() + first);
  });
}

Tensor CpuTensorDevice::silu_mul(const Tensor& gate, const Tensor& up) {
  check_same_shape(gate, up);
  return elementwise(gate, [&](int64_t first, int64_t count, float* y) {
    kernels_.silu_mul(gate.as<float>() + first, up.as<float>() + first, count, y);
  });
}

TensorPair CpuTensorDevice::silu_mul_backward(const Tensor& gate, const Tensor& up,
                                              const Tensor& dy) {
  check_same_shape(gate, up);
  check_same_shape(gate, dy);
  const Tensor dup = allocate(up.rows(), up.cols());
  const Tensor dgate = elementwise(gate, [&](int64_t first, int64_t count, float* out) {
    tensor_kernels_.silu_mul_backward(gate.as<float>() + first, up.as<float>() + first,
                                      dy.as<float>() + first, count, out, dup.as<float>() + first);
  });
  return {dgate, dup};
}

Tensor CpuTensorDevice::sigmoid(const Tensor& x) {
  return elementwise(x, [&](int64_t first, int64_t count, float* y) {
    tensor_kernels_.sigmoid(x.as<float>() + first, count, y);
  });
}

Tensor CpuTensorDevice::sigmoid_backward(const Tensor& y, const Tensor& dy) {
  check_same_shape(y, dy);
  return elementwise(y, [&](int64_t first, int64_t count, float* dx) {
    tensor_kernels_.sigmoid_backward(y.as<float>() + first, dy.as<float>() + first, count, dx);
  });
}

Tensor CpuTensorDevice::reciprocal(const Tensor& x) {
  return elementwise(x, [&](int64_t first, int64_t count, float* y) {
    tensor_kernels_.reciprocal(x.as<float>() + first, count, y);
  });
}

Tensor CpuTensorDevice::reciprocal_backward(const Tensor& y, const Tensor& dy) {
  check_same_shape(y, dy);
  return elementwise(y, [&](int64_t first, int64_t count, float* dx) {
    tensor_kernels_.reciprocal_backward(y.as<float>() + first, dy.as<float>() + first, count, dx);
  });
}

Tensor CpuTensorDevice::away_from_zero(const Tensor& x, float minimum) {
  return elementwise(x, [&](int64_t first, int64_t count, float* y) {
    tensor_kernels_.away_from_zero(x.as<float>() + first, minimum, count, y);
  });
}

// For scalars: no kernels of its own.
Tensor CpuTensorDevice::negative_log_abs(const Tensor& x) {
  return elementwise(x, [&](int64_t first, int64_t count, float* y) {
    for (int64_t i = 0; i < count; ++i)
      y[i] = -std::log(std::fabs(x.as<float>()[first + i]));
  });
}

Tensor CpuTensorDevice::negative_log_abs_backward(const Tensor& x, const Tensor& dy) {
  check_same_shape(x, dy);
  return elementwise(x, [&](int64_t first, int64_t count, float* dx) {
    for (int64_t i = 0; i < count; ++i)
      dx[i] = -dy.as<float>()[first + i] / x.as<float>()[first + i];
  });
}

void CpuTensorDevice::adamw(const Tensor& parameter, const Tensor& gradient, const Tensor& mean,
                            const Tensor& variance, const AdamW& settings) {
  check_adamw(parameter, gradient, mean, variance, settings);
  if (memory_.failed()) return;
  const double step = static_cast<double>(settings.step);
  AdamWFactors factors;
  factors.rate = static_cast<float>(settings.rate);
  factors.kept_mean = static_cast<float>(settings.beta1);
  factors.new_mean = static_cast<float>(1 - settings.beta1);
  factors.kept_variance = static_cast<float>(settings.beta2);
  factors.new_variance = static_cast<float>(1 - settings.beta2);
  factors.mean_bias = static_cast<float>(1 / (1 - std::pow(settings.beta1, step)));
  factors.variance_bias = static_cast<float>(1 / (1 - std::pow(settings.beta2, step)));
  factors.epsilon = static_cast<float>(settings.epsilon);
  factors.decay = static_cast<float>(settings.rate * settings.weight_decay);
  for_element_pieces(parameter.size(), [&](int64_t first, int64_t count) {
    tensor_kernels_.adamw(factors, gradient.as<float>() + first, count,
                          parameter.as<float>() + first, mean.as<float>() + first,
                          variance.as<float>() + first);
  });
}

}  // namespace abq::compute
