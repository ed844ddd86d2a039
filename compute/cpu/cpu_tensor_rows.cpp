#include <algorithm>
#include <cmath>
#include <vector>

#include "compute/cpu/cpu_tensor_device.h"
#include "compute/cpu/pieces.h"
#include "compute/tensor_checks.h"

namespace abq::compute {
namespace {

constexpr float kMinNorms = 1e-8f;
constexpr float kMinProbability = 1e-8f;

MatrixView<float> view(const Tensor& x) {
  return {x.as<float>(), x.rows(), x.cols()};
}

float* row_of(const Tensor& x, int64_t r) {
  return x.as<float>() + r * x.cols();
}

LogitRow logit_row(const TensorKernels& kernels, const Tensor& y, const Tensor& target, int64_t r) {
  LogitRow row = {.y = row_of(y, r), .target = row_of(target, r)};
  const ExponentialSum of_y = kernels.exponential_sum(row.y, y.cols());
  const ExponentialSum of_target = kernels.exponential_sum(row.target, y.cols());
  row.y_high = of_y.high;
  row.y_factor = static_cast<float>(1 / of_y.sum);
  row.target_high = of_target.high;
  row.target_factor = static_cast<float>(1 / of_target.sum);
  row.shift = (of_target.high - of_y.high) + static_cast<float>(std::log(of_target.sum / of_y.sum));
  return row;
}

}  // namespace

void CpuTensorDevice::add_rows(const Tensor& partial, int64_t first_col, const Tensor& sum) const {
  std::fill_n(sum.as<float>(), sum.size(), 0.0f);
  for (int64_t r = 0; r < partial.rows(); ++r)
    kernels_.add(sum.as<float>(), row_of(partial, r) + first_col, sum.size(), sum.as<float>());
}

Tensor CpuTensorDevice::rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  check_rms_norm(x, weight);
  Tensor y = allocate(x.rows(), x.cols());
  if (!memory_.failed()) device_.rms_norm(view(x), weight.as<float>(), eps, view(y));
  return y;
}

TensorPair CpuTensorDevice::rms_norm_backward(const Tensor& x, const Tensor& weight, float eps,
                                              const Tensor& dy) {
  check_rms_norm(x, weight);
  check_same_shape(x, dy);
  const Tensor dx = allocate(x.rows(), x.cols());
  const Tensor dweight = allocate(weight.rows(), weight.cols());
  const RowSums sums(x.rows(), x.cols());
  const Tensor partial = allocate(sums.pieces, x.cols());
  if (memory_.failed()) return {dx, dweight};
  sums.for_pieces([&](int64_t piece, int64_t first, int64_t last) {
    float* const sum = row_of(partial, piece);
    std::fill_n(sum, x.cols(), 0.0f);
    for (int64_t r = first; r < last; ++r) {
      tensor_kernels_.rms_norm_backward(row_of(x, r), weight.as<float>(), eps, row_of(dy, r),
                                        x.cols(), row_of(dx, r), sum);
    }
  });
  add_rows(partial, 0, dweight);
  return {dx, dweight};
}

Tensor CpuTensorDevice::rope(const Tensor& x, int head_dim, int64_t context,
                             const Tensor& frequencies, bool inverse) {
  check_rope(x, head_dim, context, frequencies);
  Tensor y = allocate(x.rows(), x.cols());
  if (memory_.failed()) return y;
  const int64_t half = head_dim / 2;
  // A piece takes a range of positions through all sequences: their angles are computed once.
  const int64_t positions = std::min(context, x.rows());
  const int64_t sequences = divide_up(x.rows(), context);
  for_row_pieces(positions, sequences * x.cols(), [&](int64_t first, int64_t last) {
    float* const cosines = thread_scratch(head_dim);
    float* const sines = cosines + half;
    for (int64_t position = first; position < last; ++position) {
      rope_angles(inverse ? -position : position, frequencies.as<float>(), half, cosines, sines);
      for (int64_t r = position; r < x.rows(); r += context) {
        std::copy_n(row_of(x, r), x.cols(), row_of(y, r));
        kernels_.rope(row_of(y, r), x.cols() / head_dim, head_dim, cosines, sines);
      }
    }
  });
  return y;
}

Tensor CpuTensorDevice::hadamard(const Tensor& x, int64_t size, bool transposed) {
  check_hadamard(x, size);
  Tensor y = copy(x);
  if (!memory_.failed()) device_.hadamard(view(y), size, transposed);
  return y;
}

Tensor CpuTensorDevice::repeat(const Tensor& x, int64_t inner, int64_t count) {
  check_repeat(x, inner, count);
  Tensor y = allocate(1, x.size() * count);
  if (memory_.failed()) return y;
  parallel_for(x.size() / inner, [&](int64_t outer) {
    for (int64_t r = 0; r < count; ++r)
      std::copy_n(x.as<float>() + outer * inner, inner,
                  y.as<float>() + (outer * count + r) * inner);
  });
  return y;
}

Tensor CpuTensorDevice::repeat_backward(const Tensor& dy, int64_t inner, int64_t count) {
  check_repeat_backward(dy, inner, count);
  Tensor dx = allocate(1, dy.size() / count);
  if (memory_.failed()) return dx;
  parallel_for(dx.size() / inner, [&](int64_t outer) {
    const float* const from = dy.as<float>() + outer * count * inner;
    float* const sum = dx.as<float>() + outer * inner;
    std::copy_n(from, inner, sum);
    for (int64_t r = 1; r < count; ++r)
      kernels_.add(sum, from + r * inner, inner, sum);
  });
  return dx;
}

Tensor CpuTensorDevice::column_statistics(const Tensor& x) {
  check_column_statistics(x);
  const int64_t cols = x.cols();
  Tensor y = allocate(3, cols);
  const RowSums sums(x.rows(), cols);
  const Tensor partial = allocate(sums.pieces, 3 * cols);
  if (memory_.failed()) return y;
  sums.for_pieces([&](int64_t piece, int64_t first, int64_t last) {
    float* const low = row_of(partial, piece);
    std::copy_n(row_of(x, first), cols, low);
    std::copy_n(row_of(x, first), cols, low + cols);
    std::fill_n(low + 2 * cols, cols, 0.0f);
    for (int64_t r = first; r < last; ++r)
      tensor_kernels_.column_statistics(row_of(x, r), cols, low, low + cols, low + 2 * cols);
  });
  std::copy_n(partial.as<float>(), 2 * cols, y.as<float>());
  for (int64_t piece = 1; piece < sums.pieces; ++piece) {
    const float* const low = row_of(partial, piece);
    for (int64_t c = 0; c < cols; ++c) {
      float& lowest = y.as<float>()[c];
      float& highest = y.as<float>()[cols + c];
      if (low[c] < lowest || std::isnan(low[c])) lowest = low[c];
      if (low[cols + c] > highest || std::isnan(low[cols + c])) highest = low[cols + c];
    }
  }
  add_rows(partial, 2 * cols, y.row_range(2, 1));
  return y;
}

template <class Row>
Tensor CpuTensorDevice::mean_of_rows(int64_t rows, int64_t cols, const Row& row) {
  Tensor mean = allocate(1, 1);
  const Tensor values = allocate(rows, 1);
  if (memory_.failed()) return mean;
  for_row_pieces(rows, cols, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      values.as<float>()[r] = row(r);
  });
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r)
    sum += values.as<float>()[r];
  *mean.as<float>() = static_cast<float>(sum / static_cast<double>(rows));
  return mean;
}

Tensor CpuTensorDevice::mean_cosine(const Tensor& y, const Tensor& target) {
  check_loss(y, target);
  return mean_of_rows(y.rows(), y.cols(), [&](int64_t r) {
    float products[3];
    tensor_kernels_.dot_products(row_of(y, r), row_of(target, r), y.cols(), products);
    const float norms = std::sqrt(products[1]) * std::sqrt(products[2]);
    return products[0] / (norms < kMinNorms ? kMinNorms : norms);
  });
}

Tensor CpuTensorDevice::mean_cosine_backward(const Tensor& y, const Tensor& target,
                                             const Tensor& dloss) {
  check_loss_backward(y, target, dloss);
  Tensor dy = allocate(y.rows(), y.cols());
  if (memory_.failed()) return dy;
  const float factor = *dloss.as<float>() / static_cast<float>(y.rows());
  for_row_pieces(y.rows(), y.cols(), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      float products[3];
      tensor_kernels_.dot_products(row_of(y, r), row_of(target, r), y.cols(), products);
      const float norms = std::sqrt(products[1]) * std::sqrt(products[2]);
      // Below the guard the denominator is a constant.
      const bool guarded = norms < kMinNorms;
      const float along = factor / (guarded ? kMinNorms : norms);
      const float back = guarded ? 0.0f : -along * products[0] / products[1];
      tensor_kernels_.combine(along, row_of(target, r), back, row_of(y, r), y.cols(),
                              row_of(dy, r));
    }
  });
  return dy;
}

Tensor CpuTensorDevice::mean_squared_error(const Tensor& y, const Tensor& target) {
  check_loss(y, target);
  return mean_of_rows(y.rows(), y.cols(), [&](int64_t r) {
    return tensor_kernels_.squared_distance(row_of(y, r), row_of(target, r), y.cols()) /
           static_cast<float>(y.cols());
  });
}

Tensor CpuTensorDevice::mean_squared_error_backward(const Tensor& y, const Tensor& target,
                                                    const Tensor& dloss) {
  check_loss_backward(y, target, dloss);
  Tensor dy = allocate(y.rows(), y.cols());
  if (memory_.failed()) return dy;
  const float factor = 2.0f * *dloss.as<float>() / static_cast<float>(y.size());
  for_row_pieces(y.rows(), y.cols(), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      tensor_kernels_.scaled_difference(factor, row_of(y, r), row_of(target, r), y.cols(),
                                        row_of(dy, r));
  });
  return dy;
}

Tensor CpuTensorDevice::symmetric_divergence(const Tensor& p, const Tensor& target) {
  check_divergence(p, target);
  return mean_of_rows(p.rows(), p.cols(), [&](int64_t r) {
    return tensor_kernels_.divergence(row_of(p, r), row_of(target, r), kMinProbability,
                                      r % p.cols() + 1);
  });
}

Tensor CpuTensorDevice::symmetric_divergence_backward(const Tensor& p, const Tensor& target,
                                                      const Tensor& dloss) {
  check_divergence_backward(p, target, dloss);
  Tensor dp = allocate(p.rows(), p.cols());
  if (memory_.failed()) return dp;
  const float factor = *dloss.as<float>() / static_cast<float>(p.rows());
  for_row_pieces(p.rows(), p.cols(), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const int64_t seen = r % p.cols() + 1;
      tensor_kernels_.divergence_backward(row_of(p, r), row_of(target, r), kMinProbability, factor,
                                          seen, row_of(dp, r));
      std::fill_n(row_of(dp, r) + seen, p.cols() - seen, 0.0f);
    }
  });
  return dp;
}

Tensor CpuTensorDevice::logit_divergence(const Tensor& y, const Tensor& target) {
  check_loss(y, target);
  return mean_of_rows(y.rows(), y.cols(), [&](int64_t r) {
    return tensor_kernels_.logit_divergence(logit_row(tensor_kernels_, y, target, r), y.cols());
  });
}

Tensor CpuTensorDevice::logit_divergence_backward(const Tensor& y, const Tensor& target,
                                                  const Tensor& dloss) {
  check_loss_backward(y, target, dloss);
  Tensor dy = allocate(y.rows(), y.cols());
  if (memory_.failed()) return dy;
  const float factor = *dloss.as<float>() / static_cast<float>(y.rows());
  for_row_pieces(y.rows(), y.cols(), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      tensor_kernels_.logit_divergence_backward(logit_row(tensor_kernels_, y, target, r), factor,
                                                y.cols(), row_of(dy, r));
  });
  return dy;
}

}  // namespace abq::compute
