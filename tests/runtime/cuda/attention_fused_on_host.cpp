#include "attention_fused_on_host.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "support/float16.h"

namespace abq::runtime::cuda {
namespace {

double number(const uint16_t* rows, int64_t at) {
  return static_cast<double>(f16_to_float(rows[at]));
}

}  // namespace

Status HostFusedAttention::prepare(const FusedAttentionShape& shape) {
  if (shape.head_dim % 8 == 0) return {};
  return unsupported("heads of {} elements", shape.head_dim);
}

Status HostFusedAttention::run(const FusedAttentionShape& shape,
                               const FusedAttentionBuffers& buffers, cudaStream_t) {
  ABQ_RETURN_IF_ERROR(prepare(shape));
  const auto* const queries = static_cast<const uint16_t*>(buffers.queries);
  const auto* const keys = static_cast<const uint16_t*>(buffers.keys);
  const auto* const values = static_cast<const uint16_t*>(buffers.values);
  auto* const output = static_cast<uint16_t*>(buffers.output);
  const int64_t chunk = *buffers.chunk, tokens = *buffers.tokens;
  REQUIRE(chunk >= 1);
  REQUIRE(chunk <= shape.queries);
  REQUIRE(tokens >= chunk);
  const int64_t kv_row = static_cast<int64_t>(shape.kv_heads) * shape.row;
  for (int64_t token = tokens; token % kFusedTile != 0; ++token) {
    for (int64_t i = 0; i < kv_row; ++i)
      REQUIRE((keys[token * kv_row + i] | values[token * kv_row + i]) == 0);
  }
  std::vector<double> weights(static_cast<size_t>(tokens));
  for (int64_t i = 0; i < chunk; ++i) {
    const int64_t seen = tokens - chunk + i + 1;
    for (int64_t head = 0; head < shape.heads; ++head) {
      const int64_t q = (i * shape.heads + head) * shape.row;
      const int64_t kv = head / (shape.heads / shape.kv_heads) * shape.row;
      double top = -INFINITY;
      for (int64_t j = 0; j < seen; ++j) {
        double score = 0;
        for (int64_t d = 0; d < shape.head_dim; ++d)
          score += number(queries, q + d) * number(keys, j * kv_row + kv + d);
        if (shape.query_scales)
          score *= static_cast<double>(buffers.query_scales[i * shape.heads + head]);
        if (shape.key_scales)
          score *= static_cast<double>(buffers.key_scales[j * shape.heads + head]);
        weights[static_cast<size_t>(j)] = score / std::sqrt(shape.head_dim);
        top = std::max(top, weights[static_cast<size_t>(j)]);
      }
      double total = 0;
      for (int64_t j = 0; j < seen; ++j) {
        double& weight = weights[static_cast<size_t>(j)];
        total += weight = std::exp(weight - top);
      }
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        double sum = 0;
        for (int64_t j = 0; j < seen; ++j)
          sum += weights[static_cast<size_t>(j)] * number(values, j * kv_row + kv + d);
        output[(i * shape.heads + head) * shape.head_dim + d] =
            float_to_f16(static_cast<float>(sum / total));
      }
    }
  }
  return {};
}

}  // namespace abq::runtime::cuda
