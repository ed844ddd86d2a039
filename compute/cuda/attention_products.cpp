// The four functions of attention: products over (sequence, head) by cuBLAS, softmax between them
// by attention_kernels.cu.
#include <cmath>
#include <cstdint>

#include "compute/cuda/attention_kernels.h"
#include "compute/cuda/causal_blocks.h"
#include "compute/cuda/cuda_tensor_device.h"
#include "compute/tensor_checks.h"

namespace abq::compute::cuda {

// Where the heads' matrices lie in the tensors of one attention whose shapes are checked.
struct AttentionLayout {
  int64_t batch = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  CausalBlocks blocks;

  AttentionLayout(const AttentionShape& shape, int64_t context, int64_t rows)
      : batch(rows / context),
        heads(shape.heads),
        kv_heads(shape.kv_heads),
        head_dim(shape.head_dim),
        blocks(context, shape.window) {}
  int64_t context() const { return blocks.context; }
  int64_t group() const { return heads / kv_heads; }
  int64_t query_stride() const { return heads * head_dim; }
  int64_t key_stride() const { return kv_heads * head_dim; }
  int64_t square() const { return context() * context(); }

  // The matrices of all query heads from row `row` on; the key-value matrix that each of them uses.
  HeadMatrices queries(const Tensor& x, int64_t row) const {
    return {x.as<float>() + row * query_stride(), context() * query_stride(), head_dim, 1};
  }
  HeadMatrices keys(const Tensor& y, int64_t row) const {
    return {y.as<float>() + row * key_stride(), context() * key_stride(), head_dim, group()};
  }
  HeadMatrices weights(const Tensor& p, int64_t row, int64_t col) const {
    return {p.as<float>() + row * context() + col, heads * square(), square(), 1};
  }
  // The same by key-value head: query head `member` of its group.
  HeadMatrices member_queries(const Tensor& x, int64_t row, int64_t member) const {
    return {x.as<float>() + row * query_stride() + member * head_dim, context() * query_stride(),
            group() * head_dim, 1};
  }
  HeadMatrices own_keys(const Tensor& y, int64_t row) const {
    return {y.as<float>() + row * key_stride(), context() * key_stride(), head_dim, 1};
  }
  HeadMatrices member_weights(const Tensor& p, int64_t row, int64_t col, int64_t member) const {
    return {p.as<float>() + member * square() + row * context() + col, heads * square(),
            group() * square(), 1};
  }
};

void CudaTensorDevice::multiply_heads(const Product& product, const HeadMatrices& a,
                                      const HeadMatrices& b, const HeadMatrices& c, int64_t batch,
                                      int64_t heads, const Where& where) {
  constexpr int64_t kFloatsEach = 2;  // in a pointer
  static_assert(sizeof(float*) == 2 * sizeof(float));
  const int64_t count = batch * heads;
  const Tensor memory = allocate(3 * count, kFloatsEach);
  if (!status_.ok()) return;
  auto* pointers = static_cast<const float**>(memory.data());
  matrix_pointers(a, b, c, batch, heads, pointers, stream_);
  const Status status = cublas_->multiply_batched(
      product, pointers, pointers + count, const_cast<float* const*>(pointers + 2 * count), count);
  if (!status.ok()) {
    status_ = status.with_context(
        fmt::format("attention, {} products [{}, {}, {}]", count, product.m, product.n, product.k));
  }
  check("attention products", memory, cudaPeekAtLastError(), where);
}

void CudaTensorDevice::multiply_scores(const AttentionLayout& layout, float alpha, const Tensor& x,
                                       const Tensor& y, const Tensor& p) {
  for (int64_t block = 0; block < layout.blocks.count(); ++block) {
    const auto rows = layout.blocks.rows(block);
    const auto keys = layout.blocks.keys(block);
    multiply_heads({.m = rows.count(),
                    .n = keys.count(),
                    .k = layout.head_dim,
                    .b_transposed = true,
                    .lda = layout.query_stride(),
                    .ldb = layout.key_stride(),
                    .ldc = layout.context(),
                    .alpha = alpha},
                   layout.queries(x, rows.first), layout.keys(y, keys.first),
                   layout.weights(p, rows.first, keys.first), layout.batch, layout.heads);
  }
}

void CudaTensorDevice::multiply_mix(const AttentionLayout& layout, const Tensor& p, const Tensor& y,
                                    const Tensor& x) {
  for (int64_t block = 0; block < layout.blocks.count(); ++block) {
    const auto rows = layout.blocks.rows(block);
    const auto keys = layout.blocks.keys(block);
    multiply_heads({.m = rows.count(),
                    .n = layout.head_dim,
                    .k = keys.count(),
                    .lda = layout.context(),
                    .ldb = layout.key_stride(),
                    .ldc = layout.query_stride()},
                   layout.weights(p, rows.first, keys.first), layout.keys(y, keys.first),
                   layout.queries(x, rows.first), layout.batch, layout.heads);
  }
}

void CudaTensorDevice::multiply_gather(const AttentionLayout& layout, const Tensor& p,
                                       const Tensor& x, const Tensor& y) {
  for (int64_t block = 0; block < layout.blocks.count(); ++block) {
    const auto keys = layout.blocks.rows(block);
    const auto queries = layout.blocks.queries(block);
    for (int64_t member = 0; member < layout.group(); ++member) {
      multiply_heads({.m = keys.count(),
                      .n = layout.head_dim,
                      .k = queries.count(),
                      .a_transposed = true,
                      .lda = layout.context(),
                      .ldb = layout.query_stride(),
                      .ldc = layout.key_stride(),
                      .beta = member == 0 ? 0.0F : 1.0F},
                     layout.member_weights(p, queries.first, keys.first, member),
                     layout.member_queries(x, queries.first, member),
                     layout.own_keys(y, keys.first), layout.batch, layout.kv_heads);
    }
  }
}

namespace {

float score_factor(const AttentionShape& shape) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_dim)));
}

}  // namespace

Tensor CudaTensorDevice::attention_weights(const AttentionShape& shape, int64_t context,
                                           const Tensor& q, const Tensor& k) {
  check_attention_weights(shape, context, q, k);
  const AttentionLayout layout(shape, context, q.rows());
  Tensor p = allocate(layout.batch * layout.heads * context, context);
  multiply_scores(layout, score_factor(shape), q, k, p);
  run("attention_weights", p,
      [&] { causal_softmax(p.as<float>(), p.rows(), context, shape.window, stream_); });
  return p;
}

TensorPair CudaTensorDevice::attention_weights_backward(const AttentionShape& shape,
                                                        int64_t context, const Tensor& q,
                                                        const Tensor& k, const Tensor& p,
                                                        const Tensor& dp) {
  check_attention_weights_backward(shape, context, q, k, p, dp);
  const AttentionLayout layout(shape, context, q.rows());
  TensorPair gradients{allocate(q.rows(), q.cols()), allocate(k.rows(), k.cols())};
  // The scores' gradient, 1 / sqrt(D) included, so that its products with q and k need no factor.
  const Tensor ds = allocate(p.rows(), p.cols());
  run("attention_weights_backward", ds, [&] {
    causal_softmax_backward(p.as<float>(), dp.as<float>(), score_factor(shape), ds.as<float>(),
                            p.rows(), context, shape.window, layout.blocks.size, stream_);
  });
  multiply_mix(layout, ds, k, gradients.first);
  multiply_gather(layout, ds, q, gradients.second);
  return gradients;
}

Tensor CudaTensorDevice::attention_mix(const AttentionShape& shape, int64_t context,
                                       const Tensor& p, const Tensor& v) {
  check_attention_mix(shape, context, p, v);
  const AttentionLayout layout(shape, context, v.rows());
  Tensor y = allocate(v.rows(), layout.query_stride());
  multiply_mix(layout, p, v, y);
  return y;
}

TensorPair CudaTensorDevice::attention_mix_backward(const AttentionShape& shape, int64_t context,
                                                    const Tensor& p, const Tensor& v,
                                                    const Tensor& dy) {
  check_attention_mix_backward(shape, context, p, v, dy);
  const AttentionLayout layout(shape, context, v.rows());
  TensorPair gradients{allocate(p.rows(), p.cols()), allocate(v.rows(), v.cols())};
  multiply_scores(layout, 1.0F, dy, v, gradients.first);
  run("attention_mix_backward", gradients.first,
      [&] { zero_unseen(gradients.first.as<float>(), p.rows(), context, shape.window, stream_); });
  multiply_gather(layout, p, dy, gradients.second);
  return gradients;
}

}  // namespace abq::compute::cuda
