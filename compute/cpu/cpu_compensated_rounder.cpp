#include "compute/cpu/cpu_compensated_rounder.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "compute/cpu/pieces.h"
#include "compute/cpu/row_rounder.h"

namespace abq::compute {
namespace {

using Eigen::Index;

constexpr int64_t kTokens = 1024;      // summed in float32 before they go to the float64 sums
constexpr int64_t kProductBand = 128;  // columns of X^T X that are made at a time
constexpr int64_t kInverseBand = 64;
constexpr int64_t kRows = 32;
constexpr int64_t kNearestRows = 256;

// U with U^T U = A^-1 for the lower factor L of A with its columns backwards: A = L L^T backwards
// is A = R R^T with R upper forwards, and U = R^-1, so that A is never inverted.
std::vector<double> reversed_inverse(const Eigen::MatrixXd& lower) {
  const Index k = lower.rows();
  std::vector<double> result(static_cast<size_t>(k * k));
  parallel_for(divide_up(k, kInverseBand), [&](int64_t band) {
    const Index first = band * kInverseBand;
    const Index cols = std::min<Index>(kInverseBand, k - first);
    Eigen::MatrixXd inverse = Eigen::MatrixXd::Identity(k - first, cols);
    lower.bottomRightCorner(k - first, k - first)
        .triangularView<Eigen::Lower>()
        .solveInPlace(inverse);
    for (Index i = 0; i < k - first; ++i)
      for (Index j = 0; j < cols; ++j)
        result[static_cast<size_t>((k - 1 - first - i) * k + (k - 1 - first - j))] = inverse(i, j);
  });
  return result;
}

}  // namespace

std::unique_ptr<CompensatedRounder> CpuTensorDevice::create_rounder(int64_t k) {
  return std::make_unique<CpuCompensatedRounder>(*this, k);
}

CpuCompensatedRounder::CpuCompensatedRounder(CpuTensorDevice& device, int64_t k)
    : device_(device), k_(k), sums_(static_cast<size_t>(k * k)) {}

void CpuCompensatedRounder::add(const Tensor& x) {
  ABQ_CHECK(x.cols() == k_);
  for (int64_t first = 0; first < x.rows(); first += kTokens)
    add_chunk(x.row_range(first, std::min(kTokens, x.rows() - first)));
  tokens_ += x.rows();
  factors_.clear();
}

// Bands of columns, each down to the diagonal: little more than half of the products.
void CpuCompensatedRounder::add_chunk(const Tensor& x) {
  const Tensor turned = device_.transposed(x);
  const Tensor product = device_.allocate(k_, k_);
  if (!device_.status().ok()) return;
  for (int64_t first = 0; first < k_; first += kProductBand) {
    const int64_t cols = std::min(kProductBand, k_ - first);
    const int64_t rows = first + cols;
    device_.device_.matmul({turned.as<float>(), rows, x.rows(), turned.cols()},
                           {x.as<float>() + first, x.rows(), cols, k_},
                           {product.as<float>() + first, rows, cols, k_});
  }
  for_row_pieces(k_, k_, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* const from = product.as<float>() + i * k_;
      double* const to = sums_.data() + i * k_;
      for (int64_t j = i; j < k_; ++j)
        to[j] += static_cast<double>(from[j]);
    }
  });
}

void CpuCompensatedRounder::add_products(std::span<const double> products, int64_t tokens) {
  ABQ_CHECK(products.size() == sums_.size());
  for (size_t i = 0; i < sums_.size(); ++i)
    sums_[i] += products[i];
  tokens_ += tokens;
  factors_.clear();
}

double CpuCompensatedRounder::element(int64_t i, int64_t j) const {
  const double sum = sums_[static_cast<size_t>(std::min(i, j) * k_ + std::max(i, j))];
  return tokens_ > 0 ? 2.0 / static_cast<double>(tokens_) * sum : 0.0;
}

std::vector<double> CpuCompensatedRounder::hessian() {
  std::vector<double> h(sums_.size());
  const bool failed = !device_.status().ok();
  for (int64_t i = 0; i < k_; ++i)
    for (int64_t j = 0; j < k_; ++j)
      h[static_cast<size_t>(i * k_ + j)] =
          failed ? std::numeric_limits<double>::quiet_NaN() : element(i, j);
  return h;
}

Result<const CpuCompensatedRounder::Factor*> CpuCompensatedRounder::factor(bool by_diagonal) {
  if (const auto known = factors_.find(by_diagonal); known != factors_.end()) return &known->second;
  std::vector<double> diagonal(static_cast<size_t>(k_));
  for (int64_t i = 0; i < k_; ++i)
    diagonal[static_cast<size_t>(i)] = element(i, i);
  Factor factor;
  ABQ_ASSIGN_OR_RETURN(factor.order, order_columns(diagonal, by_diagonal));
  const auto column = [&](Index i) {
    return factor.order.columns[static_cast<size_t>(k_ - 1 - i)];
  };
  factor.added.resize(diagonal.size());
  const auto factorize = [&](double added) {
    Eigen::MatrixXd lower(k_, k_);
    parallel_for(k_, [&](int64_t j) {
      for (Index i = j; i < k_; ++i)
        lower(i, j) = element(column(i), column(j));
      lower(j, j) = factor.order.diagonal[static_cast<size_t>(column(j))] + added;
    });
    const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> llt(lower);
    if (llt.info() != Eigen::Success) return false;
    factor.upper = reversed_inverse(lower);
    for (size_t i = 0; i < diagonal.size(); ++i) {
      if (!std::isfinite(factor.upper[i * diagonal.size() + i])) return false;
      factor.added[i] = factor.order.diagonal[i] + added - diagonal[i];
    }
    return true;
  };
  ABQ_ASSIGN_OR_RETURN(factor.damping, factor_with_damping(factor.order, factorize));
  return &factors_.emplace(by_diagonal, std::move(factor)).first->second;
}

Result<CompensatedWeights> CpuCompensatedRounder::round(MatrixView<const float> w,
                                                        const WeightQuantizer& quantizer,
                                                        const RoundingGrids& grids) {
  check_rounding(w, k_, quantizer, grids);
  ABQ_RETURN_IF_ERROR(device_.status());
  const int64_t groups = quantizer.group_size > 0 ? k_ / quantizer.group_size : 1;
  ABQ_ASSIGN_OR_RETURN(const Factor* factor, this->factor(groups == 1));
  CompensatedWeights weights;
  weights.codes.resize(static_cast<size_t>(w.rows * k_));
  const auto count = static_cast<size_t>(w.rows * groups);
  weights.scales.resize(count);
  weights.zeros.resize(count);
  weights.clip_low.resize(count);
  weights.clip_high.resize(count);
  weights.damping = factor->damping;

  Grids chosen(quantizer, grids, weights);
  std::vector<double> losses(static_cast<size_t>(divide_up(w.rows, kRows)));
  parallel_for(std::ssize(losses), [&](int64_t i) {
    const int64_t first = i * kRows;
    RowRounder rows({factor->upper.data(), k_, k_}, factor->order.columns, factor->added, groups,
                    chosen, weights);
    losses[static_cast<size_t>(i)] = rows.round(w, first, std::min(kRows, w.rows - first));
  });
  ABQ_RETURN_IF_ERROR(check_rounded_scales(weights.scales));
  weights.loss = std::accumulate(losses.begin(), losses.end(), 0.0);
  weights.nearest_loss = nearest_loss(w, quantizer, grids, weights);
  ABQ_RETURN_IF_ERROR(device_.status());
  return weights;
}

// For the report: a float32 product of H with the errors is enough.
double CpuCompensatedRounder::nearest_loss(MatrixView<const float> w,
                                           const WeightQuantizer& quantizer,
                                           const RoundingGrids& grids,
                                           CompensatedWeights& weights) {
  const Grids chosen(quantizer, grids, weights);
  const ValueRounder rounder{chosen.binary()};
  const int64_t groups = std::ssize(weights.scales) / w.rows;
  const int64_t length = k_ / groups;
  const Tensor h = device_.allocate(k_, k_);
  const Tensor errors = device_.allocate(std::min(kNearestRows, w.rows), k_);
  const Tensor products = device_.allocate(errors.rows(), k_);
  if (!device_.status().ok()) return 0;
  parallel_for(k_, [&](int64_t i) {
    for (int64_t j = 0; j < k_; ++j)
      h.as<float>()[i * k_ + j] = static_cast<float>(element(i, j));
  });
  double sum = 0;
  std::vector<double> losses;
  for (int64_t first = 0; first < w.rows; first += kNearestRows) {
    const int64_t count = std::min(kNearestRows, w.rows - first);
    parallel_for(count, [&](int64_t r) {
      float* const row = errors.as<float>() + r * k_;
      for (int64_t g = 0; g < groups; ++g) {
        const std::span<const float> values(w.row(first + r) + g * length,
                                            static_cast<size_t>(length));
        const QuantizerGrid grid =
            chosen.nearest(values, static_cast<size_t>((first + r) * groups + g));
        for (int64_t i = 0; i < length; ++i) {
          const float value = values[static_cast<size_t>(i)];
          row[g * length + i] = ValueRounder::value(rounder.code(value, grid), grid) - value;
        }
      }
    });
    device_.device_.matmul({errors.as<float>(), count, k_}, {h.as<float>(), k_, k_},
                           {products.as<float>(), count, k_});
    losses.assign(static_cast<size_t>(count), 0.0);
    parallel_for(count, [&](int64_t r) {
      for (int64_t j = r * k_; j < (r + 1) * k_; ++j)
        losses[static_cast<size_t>(r)] += static_cast<double>(errors.as<float>()[j]) *
                                          static_cast<double>(products.as<float>()[j]);
    });
    sum = std::accumulate(losses.begin(), losses.end(), sum);
  }
  return sum;
}

}  // namespace abq::compute
