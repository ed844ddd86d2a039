#include <algorithm>
#include <cmath>

#include "compute/reference/reference_tensor_device.h"
#include "compute/tensor_checks.h"

namespace abq::compute {
namespace {

constexpr double kMinNorms = 1e-8;
constexpr double kMinProbability = 1e-8;

// One head of one query: where its vectors lie and which keys it sees.
struct Query {
  int64_t row;         // of q
  int64_t column;      // of the head in q
  int64_t kv_column;   // of the shared head in k and v
  int64_t weight_row;  // of the probabilities
  int64_t first_key;   // position in the sequence; the last is the query's own
  int64_t position;
  int64_t sequence_row;  // of k at position 0
};

template <class Body>
void for_queries(const AttentionShape& shape, int64_t context, int64_t rows, const Body& body) {
  for (int64_t sequence = 0; sequence < rows / context; ++sequence) {
    for (int64_t head = 0; head < shape.heads; ++head) {
      for (int64_t position = 0; position < context; ++position) {
        Query query;
        query.row = sequence * context + position;
        query.column = head * shape.head_dim;
        query.kv_column = head / (shape.heads / shape.kv_heads) * shape.head_dim;
        query.weight_row = (sequence * shape.heads + head) * context + position;
        query.first_key = shape.window > 0 ? std::max<int64_t>(position - shape.window + 1, 0) : 0;
        query.position = position;
        query.sequence_row = sequence * context;
        body(query);
      }
    }
  }
}

// a's head vector of the query times b's of a key.
double dot(const Tensor& a, const Tensor& b, const Query& query, int64_t key, int64_t head_dim) {
  double sum = 0;
  for (int64_t d = 0; d < head_dim; ++d)
    sum +=
        at(a, query.row, query.column + d) * at(b, query.sequence_row + key, query.kv_column + d);
  return sum;
}

double floored(double p) {
  return std::max(p, kMinProbability);
}

}  // namespace

Tensor ReferenceTensorDevice::attention_weights(const AttentionShape& shape, int64_t context,
                                                const Tensor& q, const Tensor& k) {
  check_attention_weights(shape, context, q, k);
  const Tensor p = zeros(q.rows() * shape.heads, context);
  if (memory_.failed()) return p;
  const double root = std::sqrt(static_cast<double>(shape.head_dim));
  for_queries(shape, context, q.rows(), [&](const Query& query) {
    double* const row = &at(p, query.weight_row, 0);
    double* const first = row + query.first_key;
    double* const last = row + query.position + 1;
    for (int64_t key = query.first_key; key <= query.position; ++key)
      row[key] = dot(q, k, query, key, shape.head_dim) / root;
    const double maximum = *std::max_element(first, last);
    double sum = 0;
    for (double* score = first; score != last; ++score) {
      *score = std::exp(*score - maximum);
      sum += *score;
    }
    for (double* score = first; score != last; ++score)
      *score /= sum;
  });
  return p;
}

TensorPair ReferenceTensorDevice::attention_weights_backward(const AttentionShape& shape,
                                                             int64_t context, const Tensor& q,
                                                             const Tensor& k, const Tensor& p,
                                                             const Tensor& dp) {
  check_attention_weights_backward(shape, context, q, k, p, dp);
  const Tensor dq = zeros_like(q), dk = zeros_like(k);
  if (memory_.failed()) return {dq, dk};
  const double root = std::sqrt(static_cast<double>(shape.head_dim));
  for_queries(shape, context, q.rows(), [&](const Query& query) {
    const double* const weights = &at(p, query.weight_row, 0);
    const double* const dweights = &at(dp, query.weight_row, 0);
    double mean = 0;
    for (int64_t key = query.first_key; key <= query.position; ++key)
      mean += weights[key] * dweights[key];
    for (int64_t key = query.first_key; key <= query.position; ++key) {
      const double dscore = weights[key] * (dweights[key] - mean) / root;
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        const int64_t row = query.sequence_row + key;
        at(dq, query.row, query.column + d) += dscore * at(k, row, query.kv_column + d);
        at(dk, row, query.kv_column + d) += dscore * at(q, query.row, query.column + d);
      }
    }
  });
  return {dq, dk};
}

Tensor ReferenceTensorDevice::attention_mix(const AttentionShape& shape, int64_t context,
                                            const Tensor& p, const Tensor& v) {
  check_attention_mix(shape, context, p, v);
  const Tensor y = zeros(v.rows(), int64_t{shape.heads} * shape.head_dim);
  if (memory_.failed()) return y;
  for_queries(shape, context, v.rows(), [&](const Query& query) {
    for (int64_t key = query.first_key; key <= query.position; ++key) {
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        at(y, query.row, query.column + d) +=
            at(p, query.weight_row, key) * at(v, query.sequence_row + key, query.kv_column + d);
      }
    }
  });
  return y;
}

TensorPair ReferenceTensorDevice::attention_mix_backward(const AttentionShape& shape,
                                                         int64_t context, const Tensor& p,
                                                         const Tensor& v, const Tensor& dy) {
  check_attention_mix_backward(shape, context, p, v, dy);
  const Tensor dp = zeros_like(p), dv = zeros_like(v);
  if (memory_.failed()) return {dp, dv};
  for_queries(shape, context, v.rows(), [&](const Query& query) {
    for (int64_t key = query.first_key; key <= query.position; ++key) {
      at(dp, query.weight_row, key) = dot(dy, v, query, key, shape.head_dim);
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        at(dv, query.sequence_row + key, query.kv_column + d) +=
            at(p, query.weight_row, key) * at(dy, query.row, query.column + d);
      }
    }
  });
  return {dp, dv};
}

// ---- Losses

namespace {

struct Cosine {
  double dot = 0;
  double norm = 0;   // |y|
  double norms = 0;  // |y| |target|, guarded
  bool guarded = false;
};

Cosine cosine(const Tensor& y, const Tensor& target, int64_t row) {
  Cosine result;
  double squares = 0, target_squares = 0;
  for (int64_t c = 0; c < y.cols(); ++c) {
    result.dot += at(y, row, c) * at(target, row, c);
    squares += at(y, row, c) * at(y, row, c);
    target_squares += at(target, row, c) * at(target, row, c);
  }
  result.norm = std::sqrt(squares);
  result.norms = std::sqrt(squares) * std::sqrt(target_squares);
  result.guarded = result.norms < kMinNorms;
  if (result.guarded) result.norms = kMinNorms;
  return result;
}

}  // namespace

Tensor ReferenceTensorDevice::mean_cosine(const Tensor& y, const Tensor& target) {
  check_loss(y, target);
  return make(1, 1, [&](int64_t, int64_t) {
    double sum = 0;
    for (int64_t r = 0; r < y.rows(); ++r) {
      const Cosine c = cosine(y, target, r);
      sum += c.dot / c.norms;
    }
    return sum / static_cast<double>(y.rows());
  });
}

Tensor ReferenceTensorDevice::mean_cosine_backward(const Tensor& y, const Tensor& target,
                                                   const Tensor& dloss) {
  check_loss_backward(y, target, dloss);
  const Tensor dy = allocate(y.rows(), y.cols());
  if (memory_.failed()) return dy;
  const double factor = at(dloss, 0) / static_cast<double>(y.rows());
  for (int64_t r = 0; r < y.rows(); ++r) {
    const Cosine cos = cosine(y, target, r);
    for (int64_t c = 0; c < y.cols(); ++c) {
      double gradient = at(target, r, c) / cos.norms;
      if (!cos.guarded) gradient -= cos.dot / cos.norms * at(y, r, c) / (cos.norm * cos.norm);
      at(dy, r, c) = factor * gradient;
    }
  }
  return dy;
}

Tensor ReferenceTensorDevice::mean_squared_error(const Tensor& y, const Tensor& target) {
  check_loss(y, target);
  return make(1, 1, [&](int64_t, int64_t) {
    double sum = 0;
    for (int64_t i = 0; i < y.size(); ++i)
      sum += (at(y, i) - at(target, i)) * (at(y, i) - at(target, i));
    return sum / static_cast<double>(y.size());
  });
}

Tensor ReferenceTensorDevice::mean_squared_error_backward(const Tensor& y, const Tensor& target,
                                                          const Tensor& dloss) {
  check_loss_backward(y, target, dloss);
  return make(y.rows(), y.cols(), [&](int64_t r, int64_t c) {
    return at(dloss, 0) * 2.0 * (at(y, r, c) - at(target, r, c)) / static_cast<double>(y.size());
  });
}

Tensor ReferenceTensorDevice::symmetric_divergence(const Tensor& p, const Tensor& target) {
  check_divergence(p, target);
  return make(1, 1, [&](int64_t, int64_t) {
    double sum = 0;
    for (int64_t r = 0; r < p.rows(); ++r) {
      for (int64_t key = 0; key <= r % p.cols(); ++key) {
        const double u = floored(at(p, r, key)), t = floored(at(target, r, key));
        sum += (u - t) * (std::log(u) - std::log(t));
      }
    }
    return sum / static_cast<double>(p.rows());
  });
}

Tensor ReferenceTensorDevice::symmetric_divergence_backward(const Tensor& p, const Tensor& target,
                                                            const Tensor& dloss) {
  check_divergence_backward(p, target, dloss);
  return make(p.rows(), p.cols(), [&](int64_t r, int64_t key) {
    const double u = at(p, r, key);
    if (key > r % p.cols() || u < kMinProbability) return 0.0;
    const double t = floored(at(target, r, key));
    return at(dloss, 0) / static_cast<double>(p.rows()) * (std::log(u) - std::log(t) + (u - t) / u);
  });
}

namespace {

double log_sum_exp(const Tensor& x, int64_t row) {
  double high = at(x, row, 0);
  for (int64_t c = 1; c < x.cols(); ++c)
    high = std::max(high, at(x, row, c));
  double sum = 0;
  for (int64_t c = 0; c < x.cols(); ++c)
    sum += std::exp(at(x, row, c) - high);
  return high + std::log(sum);
}

}  // namespace

Tensor ReferenceTensorDevice::logit_divergence(const Tensor& y, const Tensor& target) {
  check_loss(y, target);
  return make(1, 1, [&](int64_t, int64_t) {
    double sum = 0;
    for (int64_t r = 0; r < y.rows(); ++r) {
      const double y_sum = log_sum_exp(y, r), target_sum = log_sum_exp(target, r);
      for (int64_t c = 0; c < y.cols(); ++c) {
        const double log_t = at(target, r, c) - target_sum;
        sum += std::exp(log_t) * (log_t - (at(y, r, c) - y_sum));
      }
    }
    return sum / static_cast<double>(y.rows());
  });
}

Tensor ReferenceTensorDevice::logit_divergence_backward(const Tensor& y, const Tensor& target,
                                                        const Tensor& dloss) {
  check_loss_backward(y, target, dloss);
  const Tensor dy = allocate(y.rows(), y.cols());
  if (memory_.failed()) return dy;
  const double factor = at(dloss, 0) / static_cast<double>(y.rows());
  for (int64_t r = 0; r < y.rows(); ++r) {
    const double y_sum = log_sum_exp(y, r), target_sum = log_sum_exp(target, r);
    for (int64_t c = 0; c < y.cols(); ++c)
      at(dy, r, c) =
          factor * (std::exp(at(y, r, c) - y_sum) - std::exp(at(target, r, c) - target_sum));
  }
  return dy;
}

}  // namespace abq::compute
