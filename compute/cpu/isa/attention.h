// Causal attention. Blocks of queries walk over the keys in steps with a running maximum and sum
// (online softmax, arXiv 1805.02867), so that scratch does not grow with the context; one query row
// alone uses dot products and a weighted sum.
#pragma once

#include "compute/cpu/isa/elementwise.h"
#include "compute/cpu/isa/gemm.h"

namespace abq::compute::ABQ_ISA_NAMESPACE {
namespace {

constexpr float kLowestScore = -3.0e38f;

float max_of(const float* x, int64_t count, float start) {
  Float best = broadcast(start);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Float v = load(x + i);
    best = v > best ? v : best;
  }
  float result = max_lanes(best);
  for (; i < count; ++i)
    result = x[i] > result ? x[i] : result;
  return result;
}

// x[i] = exp(x[i] - shift); returns their sum.
float exp_in_place(float* x, int64_t count, float shift) {
  Float sum = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Float e = exp(load(x + i) - shift);
    store(x + i, e);
    sum += e;
  }
  float result = sum_lanes(sum);
  if (i < count) {
    const Float e = exp(load_partial(x + i, count - i) - shift);
    store_partial(x + i, e, count - i);
    for (int64_t j = i; j < count; ++j)
      result += x[j];
  }
  return result;
}

void scale_row(float* x, int64_t count, float factor) {
  for (int64_t i = 0; i < count; ++i)
    x[i] *= factor;
}

struct BlockScratch {
  float* gemm;
  float* queries;  // [rows, head_dim], scaled by 1 / sqrt(head_dim)
  float* scores;   // [rows, kAttentionKeys]
  float* outputs;  // [rows, head_dim]
  float* maxima;   // [rows]
  float* sums;     // [rows]
};

BlockScratch carve(const AttentionBlock& b) {
  BlockScratch s;
  s.gemm = b.scratch;
  s.scores = s.gemm + kGemmScratch;
  s.queries = s.scores + kAttentionRows * kAttentionKeys;
  s.outputs = s.queries + kAttentionRows * b.head_dim;
  s.maxima = s.outputs + kAttentionRows * b.head_dim;
  s.sums = s.maxima + kAttentionRows;
  return s;
}

int64_t first_key(const AttentionBlock& b, int64_t position) {
  return b.window > 0 && position >= b.window ? position - b.window + 1 : 0;
}

// Score row h * queries + r is query r of head h.
void load_queries(const AttentionBlock& b, const BlockScratch& s) {
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(b.head_dim));
  for (int64_t h = 0; h < b.heads; ++h) {
    for (int64_t r = 0; r < b.queries; ++r) {
      const int64_t row = h * b.queries + r;
      const float* q = b.q + r * b.q_stride + h * b.head_dim;
      for (int64_t d = 0; d < b.head_dim; ++d) {
        s.queries[row * b.head_dim + d] = q[d] * scale;
        s.outputs[row * b.head_dim + d] = 0.0f;
      }
      s.maxima[row] = kLowestScore;
      s.sums[row] = 0.0f;
    }
  }
}

// Turns the scores of keys [k0, k1) into weights relative to the running maximum, zero where
// masked, and rescales what was summed under the old maximum.
void softmax_step(const AttentionBlock& b, const BlockScratch& s, int64_t k0, int64_t k1) {
  for (int64_t row = 0; row < b.heads * b.queries; ++row) {
    const int64_t position = b.first_position + row % b.queries;
    const int64_t low = first_key(b, position);
    const int64_t begin = (low > k0 ? (low < k1 ? low : k1) : k0) - k0;
    const int64_t end = (position + 1 < k1 ? position + 1 : k1) - k0;
    float* scores = s.scores + row * kAttentionKeys;
    if (begin >= end) {
      for (int64_t i = 0; i < k1 - k0; ++i)
        scores[i] = 0.0f;
      continue;
    }
    const float maximum = max_of(scores + begin, end - begin, s.maxima[row]);
    const float sum = exp_in_place(scores + begin, end - begin, maximum);
    for (int64_t i = 0; i < begin; ++i)
      scores[i] = 0.0f;
    for (int64_t i = end; i < k1 - k0; ++i)
      scores[i] = 0.0f;
    const float rescale = exp(broadcast(s.maxima[row] - maximum))[0];
    if (maximum > s.maxima[row]) scale_row(s.outputs + row * b.head_dim, b.head_dim, rescale);
    s.sums[row] = s.sums[row] * rescale + sum;
    s.maxima[row] = maximum;
  }
}

void attention_block(const AttentionBlock& b) {
  const BlockScratch s = carve(b);
  const int64_t rows = b.heads * b.queries;
  const int64_t last_key = b.first_position + b.queries;
  load_queries(b, s);

  GemmTile scores;
  scores.a = s.queries;
  scores.a_stride = b.head_dim;
  scores.b_stride = b.k_stride;
  scores.depth = b.head_dim;
  scores.c = s.scores;
  scores.c_stride = kAttentionKeys;
  GemmTile outputs;
  outputs.a = s.scores;
  outputs.a_stride = kAttentionKeys;
  outputs.b_stride = b.v_stride;
  outputs.b_is_depth_by_cols = true;
  outputs.cols = b.head_dim;
  outputs.c = s.outputs;
  outputs.c_stride = b.head_dim;
  outputs.accumulate = true;
  scores.rows = outputs.rows = rows;
  scores.scratch = outputs.scratch = s.gemm;

  for (int64_t k0 = first_key(b, b.first_position); k0 < last_key; k0 += kAttentionKeys) {
    const int64_t k1 = k0 + kAttentionKeys < last_key ? k0 + kAttentionKeys : last_key;
    scores.b = b.k + k0 * b.k_stride;
    scores.cols = k1 - k0;
    gemm_tile(scores);
    softmax_step(b, s, k0, k1);
    outputs.b = b.v + k0 * b.v_stride;
    outputs.depth = k1 - k0;
    gemm_tile(outputs);
  }
  for (int64_t row = 0; row < rows; ++row) {
    float* y = b.y + (row % b.queries) * b.y_stride + (row / b.queries) * b.head_dim;
    for (int64_t d = 0; d < b.head_dim; ++d)
      y[d] = s.outputs[row * b.head_dim + d] / s.sums[row];
  }
}

// y[0..kVectors * kLanes) += sum_t weights[t] * v[t, ...].
template <int kVectors>
void add_weighted(const float* weights, const float* v, int64_t v_stride, int64_t count, float* y) {
  Float sum[kVectors];
  for (int j = 0; j < kVectors; ++j)
    sum[j] = load(y + j * kLanes);
  for (int64_t t = 0; t < count; ++t) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j)
      sum[j] += weights[t] * load(v + t * v_stride + j * kLanes);
  }
  for (int j = 0; j < kVectors; ++j)
    store(y + j * kLanes, sum[j]);
}

// y[0..width) += sum_t weights[t] * v[t, 0..width).
void add_weighted_rows(const float* weights, const float* v, int64_t v_stride, int64_t count,
                       int64_t width, float* y) {
  int64_t d = 0;
  for (; d + 8 * kLanes <= width; d += 8 * kLanes)
    add_weighted<8>(weights, v + d, v_stride, count, y + d);
  for (; d + kLanes <= width; d += kLanes)
    add_weighted<1>(weights, v + d, v_stride, count, y + d);
  for (; d < width; ++d) {
    for (int64_t t = 0; t < count; ++t)
      y[d] += weights[t] * v[t * v_stride + d];
  }
}

void attention_row(const AttentionBlock& b) {
  constexpr int64_t kKeysInCache = 64;  // keys read once from memory for all heads of the block
  const int64_t low = first_key(b, b.first_position);
  const int64_t count = b.first_position + 1 - low;
  const int64_t dim = b.head_dim;
  float* const scores = b.scratch;                  // [heads, count]
  float* const queries = scores + b.heads * count;  // [heads, head_dim]
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(dim));
  for (int64_t i = 0; i < b.heads * dim; ++i) {
    queries[i] = b.q[i] * scale;
    b.y[i] = 0.0f;
  }
  for (int64_t t = 0; t < count; t += kKeysInCache) {
    const int64_t keys = t + kKeysInCache < count ? kKeysInCache : count - t;
    const float* k = b.k + (low + t) * b.k_stride;
    for (int64_t h = 0; h < b.heads; ++h)
      gemv_rows(k, b.k_stride, keys, dim, queries + h * dim, scores + h * count + t);
  }
  float sums[kAttentionHeads];
  for (int64_t h = 0; h < b.heads; ++h) {
    float* row = scores + h * count;
    sums[h] = exp_in_place(row, count, max_of(row, count, kLowestScore));
  }
  for (int64_t t = 0; t < count; t += kKeysInCache) {
    const int64_t keys = t + kKeysInCache < count ? kKeysInCache : count - t;
    const float* v = b.v + (low + t) * b.v_stride;
    for (int64_t h = 0; h < b.heads; ++h)
      add_weighted_rows(scores + h * count + t, v, b.v_stride, keys, dim, b.y + h * dim);
  }
  for (int64_t h = 0; h < b.heads; ++h)
    scale_row(b.y + h * dim, dim, 1.0f / sums[h]);
}

}  // namespace
}  // namespace abq::compute::ABQ_ISA_NAMESPACE
