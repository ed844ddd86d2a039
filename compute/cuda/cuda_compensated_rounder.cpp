#include "compute/cuda/cuda_compensated_rounder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace abq::compute::cuda {
namespace {

constexpr int64_t kTokens = 4096;  // that are float64 at a time

static_assert(kRoundingBlock == kRoundingColumns);

// Tensors are of floats; other types lie in them as bytes.
template <class T>
int64_t floats_for(int64_t count) {
  return (count * static_cast<int64_t>(sizeof(T)) + 3) / 4;
}

double* as_doubles(const Tensor& x) {
  return static_cast<double*>(x.data());
}

template <class T>
Tensor upload(TensorDevice& device, std::span<const T> values) {
  std::vector<float> bytes(static_cast<size_t>(floats_for<T>(std::ssize(values))));
  std::memcpy(bytes.data(), values.data(), values.size_bytes());
  return device.upload(bytes, 1, std::ssize(bytes));
}

template <class T>
std::vector<T> downloaded(TensorDevice& device, const Tensor& x, int64_t count) {
  std::vector<float> bytes(static_cast<size_t>(x.size()));
  device.download(x, bytes);
  std::vector<T> values(static_cast<size_t>(count));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

GridRule rule_of(const WeightQuantizer& quantizer, const RoundingGrids& grids) {
  GridRule rule;
  rule.kind = quantizer.kind == WeightQuantizer::Kind::kBinary      ? GridRule::kBinary
              : quantizer.kind == WeightQuantizer::Kind::kSymmetric ? GridRule::kSymmetric
                                                                    : GridRule::kAsymmetric;
  rule.max_code = static_cast<float>(quantizer.levels - 1);
  rule.steps = static_cast<float>(quantizer.steps);
  rule.zero = static_cast<float>(quantizer.zero);
  rule.given = !grids.scales.empty();
  rule.searched = grids.scales.empty() && grids.clip_low.empty();
  return rule;
}

}  // namespace

GridTable CudaCompensatedRounder::Layer::table() const {
  return {scales.as<float>(), zeros.as<float>(), clip_low.as<float>(), clip_high.as<float>()};
}

CudaCompensatedRounder::CudaCompensatedRounder(CudaTensorDevice& device, int64_t k)
    : device_(device), k_(k), sums_(doubles(k * k)) {
  device_.run("zero_doubles", sums_,
              [&] { zero_doubles(as_doubles(sums_), k_ * k_, device_.stream_); });
}

Tensor CudaCompensatedRounder::doubles(int64_t count) {
  return device_.allocate(1, 2 * count);
}

void CudaCompensatedRounder::keep(const Status& status) {
  if (device_.status_.ok() && !status.ok()) device_.status_ = status;
}

void CudaCompensatedRounder::add(const Tensor& x) {
  ABQ_CHECK(x.cols() == k_);
  for (int64_t first = 0; first < x.rows(); first += kTokens) {
    const Tensor part = x.row_range(first, std::min(kTokens, x.rows() - first));
    const Tensor wide = doubles(part.size());
    device_.run("add", wide, [&] {
      to_double(part.as<float>(), as_doubles(wide), part.size(), device_.stream_);
      keep(device_.cublas_->add_products(part.rows(), k_, as_doubles(wide), as_doubles(sums_)));
    });
  }
  tokens_ += x.rows();
  factors_.clear();
}

void CudaCompensatedRounder::add_products(std::span<const double> products, int64_t tokens) {
  ABQ_CHECK(static_cast<int64_t>(products.size()) == k_ * k_);
  std::vector<double> sums = downloaded<double>(device_, sums_, k_ * k_);
  for (size_t i = 0; i < sums.size(); ++i)
    sums[i] += products[i];
  sums_ = upload<double>(device_, sums);
  tokens_ += tokens;
  factors_.clear();
}

std::vector<double> CudaCompensatedRounder::hessian() {
  std::vector<double> h = downloaded<double>(device_, sums_, k_ * k_);
  const double failed = device_.status().ok() ? 0.0 : std::nan("");
  for (int64_t i = 0; i < k_; ++i)
    for (int64_t j = i; j < k_; ++j) {
      double& upper = h[static_cast<size_t>(i * k_ + j)];
      upper = upper * factor() + failed;
      h[static_cast<size_t>(j * k_ + i)] = upper;
    }
  return h;
}

Status CudaCompensatedRounder::prepare_solver() {
  if (device_.cusolver_ != nullptr) return {};
  ABQ_ASSIGN_OR_RETURN(const CusolverFunctions* functions, cusolver_functions());
  auto solver = std::make_unique<Cusolver>();
  ABQ_RETURN_IF_ERROR(solver->create(*functions, device_.stream_));
  device_.cusolver_ = std::move(solver);
  return {};
}

// L of H with its columns backwards, its inverse, and that turned round: H is never inverted
// (compute/cpu/cpu_compensated_rounder.cpp). Row-major L^-1 turned round is its elements backwards.
Result<bool> CudaCompensatedRounder::factorize(const Tensor& columns, const Tensor& diagonal,
                                               double added, Tensor& upper) {
  const Tensor lower = doubles(k_ * k_);
  ABQ_RETURN_IF_ERROR(device_.status());
  damped_backwards(as_doubles(sums_), factor(), static_cast<const int*>(columns.data()),
                   as_doubles(diagonal), added, as_doubles(lower), k_, device_.stream_);
  ABQ_ASSIGN_OR_RETURN(const int64_t size, device_.cusolver_->workspace(k_, as_doubles(lower)));
  const Tensor workspace = doubles(std::max<int64_t>(size, 1));
  const Tensor info = device_.allocate(1, 1);
  upper = doubles(k_ * k_);
  ABQ_RETURN_IF_ERROR(device_.status());
  ABQ_RETURN_IF_ERROR(device_.cusolver_->factor(k_, as_doubles(lower), as_doubles(workspace), size,
                                                static_cast<int*>(info.data())));
  const int minor = downloaded<int>(device_, info, 1).front();
  ABQ_RETURN_IF_ERROR(device_.status());
  if (minor < 0) return internal_error("cusolverDnDpotrf: argument {} is wrong", -minor);
  if (minor > 0) return false;
  identity_matrix(as_doubles(upper), k_, device_.stream_);
  ABQ_RETURN_IF_ERROR(device_.cublas_->solve_lower(k_, as_doubles(lower), as_doubles(upper)));
  const Tensor pivots = doubles(k_);
  device_.run("factorize", upper, [&] {
    reverse_doubles(as_doubles(upper), k_ * k_, device_.stream_);
    scaled_diagonal(as_doubles(upper), 1.0, as_doubles(pivots), k_, device_.stream_);
  });
  const std::vector<double> found = downloaded<double>(device_, pivots, k_);
  ABQ_RETURN_IF_ERROR(device_.status());
  return std::all_of(found.begin(), found.end(),
                     [](double d) { return std::isfinite(d) && d > 0; });
}

Result<const CudaCompensatedRounder::Factor*> CudaCompensatedRounder::factor_for(bool by_diagonal) {
  if (const auto known = factors_.find(by_diagonal); known != factors_.end()) return &known->second;
  ABQ_RETURN_IF_ERROR(prepare_solver());
  const Tensor raw = doubles(k_);
  device_.run("diagonal", raw, [&] {
    scaled_diagonal(as_doubles(sums_), factor(), as_doubles(raw), k_, device_.stream_);
  });
  const std::vector<double> diagonal = downloaded<double>(device_, raw, k_);
  ABQ_RETURN_IF_ERROR(device_.status());
  ABQ_ASSIGN_OR_RETURN(const RoundingOrder order, order_columns(diagonal, by_diagonal));

  const std::vector<int32_t> columns(order.columns.begin(), order.columns.end());
  std::vector<double> by_position;
  for (const int32_t column : columns)
    by_position.push_back(order.diagonal[static_cast<size_t>(column)]);
  Factor made;
  made.columns = upload<int32_t>(device_, columns);
  const Tensor damped = upload<double>(device_, by_position);
  Status failure;
  double last_added = 0;
  const auto attempt = [&](double added) {
    last_added = added;
    const Result<bool> positive = factorize(made.columns, damped, added, made.upper);
    if (!positive.ok()) failure = positive.status();
    return !positive.ok() || *positive;  // a failure ends the search, too
  };
  const Result<double> damping = factor_with_damping(order, attempt);
  ABQ_RETURN_IF_ERROR(failure);
  if (!damping.ok()) return damping.status();
  made.damping = *damping;
  for (size_t i = 0; i < by_position.size(); ++i)
    by_position[i] += last_added - diagonal[static_cast<size_t>(columns[i])];
  made.added = upload<double>(device_, by_position);
  return &factors_.emplace(by_diagonal, std::move(made)).first->second;
}

CudaCompensatedRounder::Layer CudaCompensatedRounder::make_layer(MatrixView<const float> w,
                                                                 const WeightQuantizer& quantizer,
                                                                 const RoundingGrids& grids) {
  Layer layer;
  layer.n = w.rows;
  layer.groups = quantizer.group_size > 0 ? k_ / quantizer.group_size : 1;
  layer.group = layer.groups > 1 ? quantizer.group_size : 0;
  layer.rule = rule_of(quantizer, grids);
  ABQ_CHECK(w.stride == w.cols);
  layer.w = device_.upload({w.data, static_cast<size_t>(w.rows * w.cols)}, w.rows, w.cols);
  const auto table = [&](std::span<const float> values) {
    return values.empty() ? device_.filled(layer.n, layer.groups, 1.0f)
                          : device_.upload(values, layer.n, layer.groups);
  };
  const std::vector<float> zeros(grids.zeros.begin(), grids.zeros.end());
  layer.scales = table(grids.scales);
  layer.zeros = table(zeros);
  layer.clip_low = table(grids.clip_low);
  layer.clip_high = table(grids.clip_high);
  layer.codes = device_.allocate(1, floats_for<uint8_t>(layer.n * k_));
  layer.losses = doubles(layer.n);
  return layer;
}

void CudaCompensatedRounder::round_all(const Factor& factor, const Layer& layer) {
  const Tensor rest = doubles(layer.n * k_);
  const Tensor errors = doubles(layer.n * kRoundingBlock);
  device_.run("round", rest, [&] {
    zero_doubles(as_doubles(layer.losses), layer.n, device_.stream_);
    rows_by_position(layer.w.as<float>(), static_cast<const int*>(factor.columns.data()),
                     as_doubles(rest), layer.n, k_, device_.stream_);
    if (layer.groups == 1 && !layer.rule.given)
      choose_row_grids(layer.w.as<float>(), layer.rule, layer.table(), layer.n, k_,
                       device_.stream_);
  });
  RoundBlock block;
  block.k = k_;
  block.group = static_cast<int>(layer.group);
  block.columns = static_cast<const int*>(factor.columns.data());
  block.upper = as_doubles(factor.upper);
  block.added = as_doubles(factor.added);
  block.w = layer.w.as<float>();
  block.rest = as_doubles(rest);
  block.errors = as_doubles(errors);
  block.codes = static_cast<uint8_t*>(layer.codes.data());
  block.losses = as_doubles(layer.losses);
  block.grids = layer.table();
  for (int64_t begin = 0; begin < k_; begin += kRoundingBlock) {
    const int64_t end = std::min<int64_t>(begin + kRoundingBlock, k_);
    block.begin = begin;
    block.cols = static_cast<int>(end - begin);
    device_.run("round", rest, [&] {
      round_columns(layer.rule, block, layer.n, device_.stream_);
      if (end == k_) return;
      keep(device_.cublas_->multiply(
          {.m = layer.n,
           .n = k_ - end,
           .k = end - begin,
           .lda = kRoundingBlock,
           .ldb = k_,
           .ldc = k_,
           .alpha = -1,
           .beta = 1},
          as_doubles(errors), as_doubles(factor.upper) + begin * k_ + end, as_doubles(rest) + end));
    });
  }
}

double CudaCompensatedRounder::nearest_loss(const Layer& layer) {
  const Tensor errors = doubles(layer.n * k_);
  const Tensor products = doubles(layer.n * k_);
  const Tensor sums = doubles(layer.n);
  device_.run("nearest_loss", errors, [&] {
    nearest_errors(layer.w.as<float>(), layer.rule, layer.table(), as_doubles(errors), layer.n, k_,
                   k_ / layer.groups, device_.stream_);
    keep(device_.cublas_->multiply_symmetric(layer.n, k_, as_doubles(errors), as_doubles(sums_),
                                             as_doubles(products)));
    row_products(as_doubles(errors), as_doubles(products), as_doubles(sums), layer.n, k_,
                 device_.stream_);
  });
  const std::vector<double> rows = downloaded<double>(device_, sums, layer.n);
  return factor() * std::accumulate(rows.begin(), rows.end(), 0.0);
}

Result<CompensatedWeights> CudaCompensatedRounder::round(MatrixView<const float> w,
                                                         const WeightQuantizer& quantizer,
                                                         const RoundingGrids& grids) {
  check_rounding(w, k_, quantizer, grids);
  ABQ_RETURN_IF_ERROR(device_.status());
  const bool whole = quantizer.group_size == 0 || quantizer.group_size == k_;
  ABQ_ASSIGN_OR_RETURN(const Factor* factor, factor_for(whole));
  const Layer layer = make_layer(w, quantizer, grids);
  round_all(*factor, layer);
  CompensatedWeights weights;
  const int64_t count = layer.n * layer.groups;
  weights.codes = downloaded<uint8_t>(device_, layer.codes, layer.n * k_);
  weights.scales = downloaded<float>(device_, layer.scales, count);
  weights.clip_low = downloaded<float>(device_, layer.clip_low, count);
  weights.clip_high = downloaded<float>(device_, layer.clip_high, count);
  const std::vector<float> zeros = downloaded<float>(device_, layer.zeros, count);
  const std::vector<double> losses = downloaded<double>(device_, layer.losses, layer.n);
  weights.damping = factor->damping;
  weights.loss = std::accumulate(losses.begin(), losses.end(), 0.0);
  weights.nearest_loss = nearest_loss(layer);
  ABQ_RETURN_IF_ERROR(device_.status());
  ABQ_RETURN_IF_ERROR(check_rounded_scales(weights.scales));
  for (const float zero : zeros)
    weights.zeros.push_back(static_cast<uint8_t>(zero));
  return weights;
}

std::unique_ptr<CompensatedRounder> CudaTensorDevice::create_rounder(int64_t k) {
  return std::make_unique<CudaCompensatedRounder>(*this, k);
}

}  // namespace abq::compute::cuda
