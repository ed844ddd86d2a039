// Attention with explicit probabilities, in tiles of queries or keys of one head: products skip the
// keys that no query of a tile sees, and the queries that see no key of a tile.
#include <algorithm>
#include <cmath>

#include "compute/cpu/cpu_tensor_device.h"
#include "compute/cpu/pieces.h"
#include "compute/tensor_checks.h"

namespace abq::compute {
namespace {

// Queries or keys of a tile, before rounding up to whole micro-tiles: larger ones waste more on the
// diagonal, smaller ones pack the other operand more often.
constexpr int64_t kTile = 64;
// A tile's weights, transposed, beside the product's own scratch.
constexpr int64_t kTurnedStride = kGemmDepthBlock + kRowPadding;
constexpr int64_t kTurnedScratch = kGemmScratch + kGemmMaxRows * kTurnedStride;

float inverse_root(int64_t head_dim) {
  return 1.0f / std::sqrt(static_cast<float>(head_dim));
}

// The sequences of a batch and what their queries see.
struct Sequences {
  const AttentionShape& shape;
  int64_t context;
  int64_t count;
  int64_t tile;

  Sequences(const AttentionShape& s, int64_t length, int64_t rows, const Kernels& kernels)
      : shape(s),
        context(length),
        count(rows / length),
        tile(divide_up(kTile, kernels.gemm_row_step) * kernels.gemm_row_step) {}

  int64_t first_key(int64_t query) const {
    return shape.window > 0 ? std::max<int64_t>(query - shape.window + 1, 0) : 0;
  }
  // One more than the last query that sees `key`.
  int64_t last_query(int64_t key) const {
    return shape.window > 0 ? std::min(key + shape.window, context) : context;
  }
  int64_t kv_head(int64_t head) const { return head / (shape.heads / shape.kv_heads); }
  int64_t q_cols() const { return int64_t{shape.heads} * shape.head_dim; }
  int64_t kv_cols() const { return int64_t{shape.kv_heads} * shape.head_dim; }
  int64_t weight_rows() const { return count * shape.heads * context; }
  // Row of query 0 of a head in [count * heads * context, context].
  int64_t weight_row(int64_t sequence, int64_t head) const {
    return (sequence * shape.heads + head) * context;
  }

  // body(sequence, head, first, last) over tiles of all heads (`heads` per sequence), the last
  // tiles first: queries late in a sequence see most, so that no thread is left with one at the
  // end.
  template <class Body>
  void for_tiles(int64_t heads, const Body& body) const {
    const int64_t tiles = divide_up(context, tile);
    parallel_for(tiles * count * heads, [&](int64_t i) {
      const int64_t first = (tiles - 1 - i / (count * heads)) * tile;
      body(i / heads % count, i % heads, first, std::min(first + tile, context));
    });
  }
};

}  // namespace

template <class Finish>
Tensor CpuTensorDevice::key_products(const AttentionShape& shape, int64_t context, const Tensor& a,
                                     const Tensor& b, const Finish& finish) {
  const Sequences all(shape, context, a.rows(), kernels_);
  Tensor out = allocate(all.weight_rows(), context);
  if (memory_.failed()) return out;
  all.for_tiles(shape.heads, [&](int64_t sequence, int64_t head, int64_t first, int64_t last) {
    const int64_t first_key = all.first_key(first);
    float* const rows = out.as<float>() + (all.weight_row(sequence, head) + first) * context;
    GemmTile tile;
    tile.a = a.as<float>() + (sequence * context + first) * a.cols() + head * shape.head_dim;
    tile.a_stride = a.cols();
    tile.rows = last - first;
    tile.b = b.as<float>() + (sequence * context + first_key) * b.cols() +
             all.kv_head(head) * shape.head_dim;
    tile.b_stride = b.cols();
    tile.cols = last - first_key;
    tile.depth = shape.head_dim;
    tile.c = rows + first_key;
    tile.c_stride = context;
    tile.scratch = thread_scratch(kGemmScratch);
    kernels_.gemm_tile(tile);
    for (int64_t query = first; query < last; ++query) {
      float* const row = rows + (query - first) * context;
      const int64_t begin = all.first_key(query), end = query + 1;
      std::fill(row, row + begin, 0.0f);
      std::fill(row + end, row + context, 0.0f);
      finish(row + begin, end - begin);
    }
  });
  return out;
}

Tensor CpuTensorDevice::mix_keys(const AttentionShape& shape, int64_t context,
                                 const Tensor& weights, const Tensor& x) {
  const Sequences all(shape, context, x.rows(), kernels_);
  Tensor y = allocate(x.rows(), all.q_cols());
  if (memory_.failed()) return y;
  all.for_tiles(shape.heads, [&](int64_t sequence, int64_t head, int64_t first, int64_t last) {
    const int64_t first_key = all.first_key(first);
    GemmTile tile;
    tile.a = weights.as<float>() + (all.weight_row(sequence, head) + first) * context + first_key;
    tile.a_stride = context;
    tile.rows = last - first;
    tile.b = x.as<float>() + (sequence * context + first_key) * x.cols() +
             all.kv_head(head) * shape.head_dim;
    tile.b_stride = x.cols();
    tile.b_is_depth_by_cols = true;
    tile.cols = shape.head_dim;
    tile.depth = last - first_key;
    tile.c = y.as<float>() + (sequence * context + first) * y.cols() + head * shape.head_dim;
    tile.c_stride = y.cols();
    tile.scratch = thread_scratch(kGemmScratch);
    kernels_.gemm_tile(tile);
  });
  return y;
}

Tensor CpuTensorDevice::mix_queries(const AttentionShape& shape, int64_t context,
                                    const Tensor& weights, const Tensor& x) {
  const Sequences all(shape, context, x.rows(), kernels_);
  Tensor y = allocate(x.rows(), all.kv_cols());
  if (memory_.failed()) return y;
  const int64_t group = shape.heads / shape.kv_heads;
  all.for_tiles(shape.kv_heads, [&](int64_t sequence, int64_t kv_head, int64_t first,
                                    int64_t last) {
    float* const scratch = thread_scratch(kTurnedScratch);
    float* const turned = scratch + kGemmScratch;  // [keys, queries]
    GemmTile tile;
    tile.a = turned;
    tile.a_stride = kTurnedStride;
    tile.rows = last - first;
    tile.b_stride = x.cols();
    tile.b_is_depth_by_cols = true;
    tile.cols = shape.head_dim;
    tile.c = y.as<float>() + (sequence * context + first) * y.cols() + kv_head * shape.head_dim;
    tile.c_stride = y.cols();
    tile.scratch = scratch;
    const int64_t last_query = all.last_query(last - 1);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const float* const rows = weights.as<float>() + all.weight_row(sequence, head) * context;
      for (int64_t query = first; query < last_query; query += kGemmDepthBlock) {
        tile.depth = std::min(kGemmDepthBlock, last_query - query);
        tensor_kernels_.transpose(rows + query * context + first, context, tile.depth, tile.rows,
                                  turned, kTurnedStride);
        tile.b = x.as<float>() + (sequence * context + query) * x.cols() + head * shape.head_dim;
        kernels_.gemm_tile(tile);
        tile.accumulate = true;
      }
    }
  });
  return y;
}

Tensor CpuTensorDevice::attention_weights(const AttentionShape& shape, int64_t context,
                                          const Tensor& q, const Tensor& k) {
  check_attention_weights(shape, context, q, k);
  const float scale = inverse_root(shape.head_dim);
  return key_products(shape, context, q, k, [&](float* scores, int64_t keys) {
    tensor_kernels_.softmax(scale, keys, scores);
  });
}

TensorPair CpuTensorDevice::attention_weights_backward(const AttentionShape& shape, int64_t context,
                                                       const Tensor& q, const Tensor& k,
                                                       const Tensor& p, const Tensor& dp) {
  check_attention_weights_backward(shape, context, q, k, p, dp);
  const Sequences all(shape, context, q.rows(), kernels_);
  const Tensor dscores = allocate(p.rows(), context);
  if (!memory_.failed()) {
    const float scale = inverse_root(shape.head_dim);
    for_row_pieces(p.rows(), context, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        const int64_t begin = all.first_key(r % context), end = r % context + 1;
        float* const out = dscores.as<float>() + r * context;
        std::fill(out, out + begin, 0.0f);
        std::fill(out + end, out + context, 0.0f);
        const int64_t at = r * context + begin;
        tensor_kernels_.softmax_backward(scale, p.as<float>() + at, dp.as<float>() + at,
                                         end - begin, out + begin);
      }
    });
  }
  return {mix_keys(shape, context, dscores, k), mix_queries(shape, context, dscores, q)};
}

Tensor CpuTensorDevice::attention_mix(const AttentionShape& shape, int64_t context, const Tensor& p,
                                      const Tensor& v) {
  check_attention_mix(shape, context, p, v);
  return mix_keys(shape, context, p, v);
}

TensorPair CpuTensorDevice::attention_mix_backward(const AttentionShape& shape, int64_t context,
                                                   const Tensor& p, const Tensor& v,
                                                   const Tensor& dy) {
  check_attention_mix_backward(shape, context, p, v, dy);
  const Tensor dp = key_products(shape, context, dy, v, [](float*, int64_t) {});
  return {dp, mix_queries(shape, context, p, dy)};
}

}  // namespace abq::compute
