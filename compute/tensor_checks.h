// What the functions of a TensorDevice ask of their arguments. All devices call these, so that none
// of them takes what another one refuses; who breaks one has broken an invariant of ours.
#pragma once

#include <cstdint>

#include "compute/hadamard.h"
#include "compute/tensor.h"
#include "compute/tensor_device.h"
#include "support/status.h"

namespace abq::compute {

inline void check_same_shape(const Tensor& a, const Tensor& b) {
  ABQ_CHECK(a.rows() == b.rows() && a.cols() == b.cols());
}

// ---- Rows

inline void check_rms_norm(const Tensor& x, const Tensor& weight) {
  ABQ_CHECK(weight.size() == x.cols());
}

inline void check_rope(const Tensor& x, int head_dim, int64_t context, const Tensor& frequencies) {
  ABQ_CHECK(head_dim > 0 && head_dim % 2 == 0 && x.cols() % head_dim == 0 && context > 0);
  ABQ_CHECK(frequencies.size() == head_dim / 2);
}

inline void check_hadamard(const Tensor& x, int64_t size) {
  ABQ_CHECK(size > 0 && x.cols() % size == 0 && has_hadamard(size));
}

inline void check_repeat(const Tensor& x, int64_t inner, int64_t count) {
  ABQ_CHECK(inner > 0 && count > 0 && x.size() % inner == 0);
}

inline void check_repeat_backward(const Tensor& dy, int64_t inner, int64_t count) {
  ABQ_CHECK(inner > 0 && count > 0 && dy.size() % (inner * count) == 0);
}

inline void check_column_statistics(const Tensor& x) {
  ABQ_CHECK(x.rows() > 0);
}

// ---- Attention; `rows` are those of the queries or keys

inline void check_attention(const AttentionShape& shape, int64_t context, int64_t rows) {
  ABQ_CHECK(shape.head_dim > 0 && shape.kv_heads > 0 && shape.window >= 0);
  ABQ_CHECK(shape.heads > 0 && shape.heads % shape.kv_heads == 0);
  ABQ_CHECK(context > 0 && rows % context == 0);
}

inline void check_queries(const AttentionShape& shape, int64_t rows, const Tensor& x) {
  ABQ_CHECK(x.rows() == rows && x.cols() == int64_t{shape.heads} * shape.head_dim);
}

inline void check_keys(const AttentionShape& shape, int64_t rows, const Tensor& x) {
  ABQ_CHECK(x.rows() == rows && x.cols() == int64_t{shape.kv_heads} * shape.head_dim);
}

inline void check_probabilities(const AttentionShape& shape, int64_t context, int64_t rows,
                                const Tensor& p) {
  ABQ_CHECK(p.rows() == rows * shape.heads && p.cols() == context);
}

inline void check_attention_weights(const AttentionShape& shape, int64_t context, const Tensor& q,
                                    const Tensor& k) {
  check_attention(shape, context, q.rows());
  check_queries(shape, q.rows(), q);
  check_keys(shape, q.rows(), k);
}

inline void check_attention_weights_backward(const AttentionShape& shape, int64_t context,
                                             const Tensor& q, const Tensor& k, const Tensor& p,
                                             const Tensor& dp) {
  check_attention_weights(shape, context, q, k);
  check_probabilities(shape, context, q.rows(), p);
  check_same_shape(p, dp);
}

inline void check_attention_mix(const AttentionShape& shape, int64_t context, const Tensor& p,
                                const Tensor& v) {
  check_attention(shape, context, v.rows());
  check_probabilities(shape, context, v.rows(), p);
  check_keys(shape, v.rows(), v);
}

inline void check_attention_mix_backward(const AttentionShape& shape, int64_t context,
                                         const Tensor& p, const Tensor& v, const Tensor& dy) {
  check_attention_mix(shape, context, p, v);
  check_queries(shape, v.rows(), dy);
}

// ---- Quantizers and the affine transform

inline void check_tokens(const Tensor& x, int bits, int64_t segment) {
  ABQ_CHECK(bits >= 1 && bits <= 8 && segment > 0 && x.cols() % segment == 0);
}

// Returns how many neighbours share a scale.
inline int64_t check_groups(const Tensor& w, const WeightQuantizer& quantizer) {
  const int64_t length = quantizer.group_size == 0 ? w.cols() : quantizer.group_size;
  ABQ_CHECK(length > 0 && w.cols() % length == 0);
  ABQ_CHECK(quantizer.kind == WeightQuantizer::Kind::kBinary || quantizer.levels >= 2);
  return length;
}

inline int64_t check_weight_quantizer(const Tensor& w, const Tensor& clip_low,
                                      const Tensor& clip_high, const WeightQuantizer& quantizer) {
  const int64_t length = check_groups(w, quantizer);
  ABQ_CHECK(quantizer.kind != WeightQuantizer::Kind::kSymmetric || quantizer.steps >= 1);
  const int64_t groups = w.size() / length;
  ABQ_CHECK(clip_low.empty() == clip_high.empty());
  ABQ_CHECK(clip_low.empty() || (clip_low.size() == groups && clip_high.size() == groups));
  return length;
}

inline int64_t check_rounded_weight(const Tensor& offsets, const Tensor& scales,
                                    const Tensor& zeros, const WeightQuantizer& quantizer) {
  const int64_t length = check_groups(offsets, quantizer);
  const int64_t groups = offsets.size() / length;
  ABQ_CHECK(scales.size() == groups);
  ABQ_CHECK(quantizer.kind == WeightQuantizer::Kind::kBinary || zeros.size() == groups);
  return length;
}

inline void check_affine_weight(const Tensor& w, const Tensor& row_scale,
                                const Tensor& column_scale, const Tensor& a, const Tensor& b) {
  ABQ_CHECK(row_scale.empty() || row_scale.size() == w.rows());
  ABQ_CHECK(column_scale.empty() || column_scale.size() == w.cols());
  ABQ_CHECK(a.empty() == b.empty());
  ABQ_CHECK(a.empty() || (a.size() == w.rows() && b.size() == w.cols()));
}

// ---- Losses and the optimizer

inline void check_loss(const Tensor& y, const Tensor& target) {
  check_same_shape(y, target);
  ABQ_CHECK(y.size() > 0);
}

inline void check_loss_backward(const Tensor& y, const Tensor& target, const Tensor& dloss) {
  check_loss(y, target);
  ABQ_CHECK(dloss.size() == 1);
}

inline void check_divergence(const Tensor& p, const Tensor& target) {
  check_loss(p, target);
  ABQ_CHECK(p.rows() % p.cols() == 0);
}

inline void check_divergence_backward(const Tensor& p, const Tensor& target, const Tensor& dloss) {
  check_divergence(p, target);
  ABQ_CHECK(dloss.size() == 1);
}

inline void check_adamw(const Tensor& parameter, const Tensor& gradient, const Tensor& mean,
                        const Tensor& variance, const AdamW& settings) {
  const int64_t size = parameter.size();
  ABQ_CHECK(gradient.size() == size && mean.size() == size && variance.size() == size);
  ABQ_CHECK(settings.step >= 1);
}

}  // namespace abq::compute
