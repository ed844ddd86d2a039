// Elements and rows: each function is one launcher of row_kernels.h; here are shapes, results and
// scratch.
#include "compute/cuda/cuda_tensor_device.h"
#include "compute/cuda/row_kernels.h"
#include "compute/cuda/tensor_arguments.h"
#include "compute/tensor_checks.h"

namespace abq::compute::cuda {

// ---- Elementwise

Tensor CudaTensorDevice::add(const Tensor& a, const Tensor& b) {
  check_same_shape(a, b);
  Tensor y = allocate(a.rows(), a.cols());
  run("add", y, [&] { cuda::add(floats(a), floats(b), floats(y), y.size(), stream_); });
  return y;
}

Tensor CudaTensorDevice::multiply(const Tensor& a, const Tensor& b) {
  check_same_shape(a, b);
  Tensor y = allocate(a.rows(), a.cols());
  run("multiply", y, [&] { cuda::multiply(floats(a), floats(b), floats(y), y.size(), stream_); });
  return y;
}

void CudaTensorDevice::accumulate(const Tensor& sum, const Tensor& x, float factor) {
  ABQ_CHECK(sum.size() == x.size());
  run("accumulate", sum,
      [&] { cuda::accumulate(floats(sum), floats(x), factor, x.size(), stream_); });
}

Tensor CudaTensorDevice::silu_mul(const Tensor& gate, const Tensor& up) {
  check_same_shape(gate, up);
  Tensor y = allocate(gate.rows(), gate.cols());
  run("silu_mul", y,
      [&] { cuda::silu_mul(floats(gate), floats(up), floats(y), y.size(), stream_); });
  return y;
}

TensorPair CudaTensorDevice::silu_mul_backward(const Tensor& gate, const Tensor& up,
                                               const Tensor& dy) {
  check_same_shape(gate, up);
  check_same_shape(gate, dy);
  TensorPair d{allocate(gate.rows(), gate.cols()), allocate(gate.rows(), gate.cols())};
  run("silu_mul_backward", dy, [&] {
    cuda::silu_mul_backward(floats(gate), floats(up), floats(dy), floats(d.first), floats(d.second),
                            dy.size(), stream_);
  });
  return d;
}

Tensor CudaTensorDevice::sigmoid(const Tensor& x) {
  Tensor y = allocate(x.rows(), x.cols());
  run("sigmoid", y, [&] { cuda::sigmoid(floats(x), floats(y), y.size(), stream_); });
  return y;
}

Tensor CudaTensorDevice::sigmoid_backward(const Tensor& y, const Tensor& dy) {
  check_same_shape(y, dy);
  Tensor dx = allocate(y.rows(), y.cols());
  run("sigmoid_backward", dx,
      [&] { cuda::sigmoid_backward(floats(y), floats(dy), floats(dx), dx.size(), stream_); });
  return dx;
}

Tensor CudaTensorDevice::reciprocal(const Tensor& x) {
  Tensor y = allocate(x.rows(), x.cols());
  run("reciprocal", y, [&] { cuda::reciprocal(floats(x), floats(y), y.size(), stream_); });
  return y;
}

Tensor CudaTensorDevice::reciprocal_backward(const Tensor& y, const Tensor& dy) {
  check_same_shape(y, dy);
  Tensor dx = allocate(y.rows(), y.cols());
  run("reciprocal_backward", dx,
      [&] { cuda::reciprocal_backward(floats(y), floats(dy), floats(dx), dx.size(), stream_); });
  return dx;
}

Tensor CudaTensorDevice::away_from_zero(const Tensor& x, float minimum) {
  Tensor y = allocate(x.rows(), x.cols());
  run("away_from_zero", y,
      [&] { cuda::away_from_zero(floats(x), minimum, floats(y), y.size(), stream_); });
  return y;
}

Tensor CudaTensorDevice::negative_log_abs(const Tensor& x) {
  Tensor y = allocate(x.rows(), x.cols());
  run("negative_log_abs", y,
      [&] { cuda::negative_log_abs(floats(x), floats(y), y.size(), stream_); });
  return y;
}

Tensor CudaTensorDevice::negative_log_abs_backward(const Tensor& x, const Tensor& dy) {
  check_same_shape(x, dy);
  Tensor dx = allocate(x.rows(), x.cols());
  run("negative_log_abs_backward", dx, [&] {
    cuda::negative_log_abs_backward(floats(x), floats(dy), floats(dx), dx.size(), stream_);
  });
  return dx;
}

// ---- Rows

Tensor CudaTensorDevice::rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  check_rms_norm(x, weight);
  Tensor y = allocate(x.rows(), x.cols());
  run("rms_norm", y, [&] {
    cuda::rms_norm(floats(x), floats(weight), eps, floats(y), x.rows(), x.cols(), stream_);
  });
  return y;
}

TensorPair CudaTensorDevice::rms_norm_backward(const Tensor& x, const Tensor& weight, float eps,
                                               const Tensor& dy) {
  check_rms_norm(x, weight);
  check_same_shape(x, dy);
  TensorPair d{allocate(x.rows(), x.cols()), allocate(weight.rows(), weight.cols())};
  const Tensor scratch = allocate(1, rms_norm_backward_scratch(x.rows(), x.cols()));
  run("rms_norm_backward", d.first, [&] {
    cuda::rms_norm_backward(floats(x), floats(weight), eps, floats(dy), floats(d.first),
                            floats(d.second), floats(scratch), x.rows(), x.cols(), stream_);
  });
  return d;
}

Tensor CudaTensorDevice::rope(const Tensor& x, int head_dim, int64_t context,
                              const Tensor& frequencies, bool inverse) {
  check_rope(x, head_dim, context, frequencies);
  Tensor y = allocate(x.rows(), x.cols());
  run("rope", y, [&] {
    cuda::rope(floats(x), head_dim, context, floats(frequencies), inverse, floats(y), x.rows(),
               x.cols(), stream_);
  });
  return y;
}

Tensor CudaTensorDevice::hadamard(const Tensor& x, int64_t size, bool transposed) {
  check_hadamard(x, size);
  Tensor y = allocate(x.rows(), x.cols());
  const HadamardFactors& factors = hadamard_factors(size);
  Tensor& mix = hadamard_mixes_[{size, transposed}];
  if (factors.order > 1 && mix.empty()) {
    mix = upload(transposed ? factors.mix_transposed : factors.mix, factors.order, factors.order);
  }
  run("hadamard", y, [&] {
    cuda::hadamard(floats(x), floats(mix), factors.scale(), floats(y), x.size(), factors.order,
                   factors.length, stream_);
  });
  return y;
}

Tensor CudaTensorDevice::repeat(const Tensor& x, int64_t inner, int64_t count) {
  check_repeat(x, inner, count);
  Tensor y = allocate(1, x.size() * count);
  run("repeat", y,
      [&] { cuda::repeat(floats(x), floats(y), x.size() / inner, inner, count, stream_); });
  return y;
}

Tensor CudaTensorDevice::repeat_backward(const Tensor& dy, int64_t inner, int64_t count) {
  check_repeat_backward(dy, inner, count);
  const int64_t outer = dy.size() / (inner * count);
  Tensor dx = allocate(1, outer * inner);
  run("repeat_backward", dx,
      [&] { cuda::repeat_backward(floats(dy), floats(dx), outer, inner, count, stream_); });
  return dx;
}

Tensor CudaTensorDevice::column_statistics(const Tensor& x) {
  check_column_statistics(x);
  Tensor y = allocate(3, x.cols());
  const Tensor scratch = allocate(1, column_statistics_scratch(x.rows(), x.cols()));
  run("column_statistics", y, [&] {
    cuda::column_statistics(floats(x), floats(y), floats(scratch), x.rows(), x.cols(), stream_);
  });
  return y;
}

}  // namespace abq::compute::cuda
