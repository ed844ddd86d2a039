// Prefill, second launch: causal attention of 64 queries of one head over the cache, 64 keys at a
// time (32 for wide heads), with an online softmax. Each of four warps has 16 queries.
//
// Quantized keys and values enter the products as code minus zero point, an integer that float16
// holds exactly; scales are applied to scores and probabilities in float32.
#pragma once

#include "runtime/cuda/attention/attention_arguments.h"
#include "runtime/cuda/attention/prefill_tiles.cuh"

namespace abq::runtime::cuda {

struct FlashArguments {
  AttentionLayer layer;
  const SequenceState* sequence;
  int64_t layer_offset;
  int m;
  int m_padded;
  const uint4* queries;  // [heads][m_padded][padded] float16
  const float* query_scales;
  float score_scale;  // log2(e) / sqrt(D)
  float* y;
  int64_t y_stride;
};

// A lane's two query rows, g and g + 8 of the warp's 16.
struct QueryRows {
  int positions[2];
  float scales[2];  // of scores, to base 2
};

template <int kPadded, int kTiles>
__device__ __forceinline__ void flash_scores(const uint4* queries, const uint4* keys, int warp,
                                             int lane, float (&s)[kTiles][4]) {
  const int matrix = lane / 8;
  const int query = warp * 16 + matrix % 2 * 8 + lane % 8;
#pragma unroll
  for (int step = 0; step < kPadded / 16; ++step) {
    uint32_t a[4];
    load_matrices(a, queries + swizzled_chunk(query, 2 * step + matrix / 2, kPadded));
#pragma unroll
    for (int j = 0; j < kTiles; j += 2) {
      uint32_t b[4];
      const int key = (j + matrix / 2) * 8 + lane % 8;
      load_matrices(b, keys + swizzled_chunk(key, 2 * step + matrix % 2, kPadded));
      half_mma(s[j], a, b[0], b[1]);
      half_mma(s[j + 1], a, b[2], b[3]);
    }
  }
}

template <int kPadded, int kTiles>
__device__ __forceinline__ void flash_values(const uint4* values, int lane,
                                             const float (&p)[kTiles][4],
                                             float (&output)[kPadded / 8][4]) {
  const int matrix = lane / 8;
#pragma unroll
  for (int step = 0; step < kTiles / 2; ++step) {
    const uint32_t a[4] = {half_pair(p[2 * step][0], p[2 * step][1]),
                           half_pair(p[2 * step][2], p[2 * step][3]),
                           half_pair(p[2 * step + 1][0], p[2 * step + 1][1]),
                           half_pair(p[2 * step + 1][2], p[2 * step + 1][3])};
#pragma unroll
    for (int j = 0; j < kPadded / 8; j += 2) {
      uint32_t b[4];
      const int key = step * 16 + matrix % 2 * 8 + lane % 8;
      load_matrices_transposed(b, values + swizzled_chunk(key, j + matrix / 2, kPadded));
      half_mma(output[j], a, b[0], b[1]);
      half_mma(output[j + 1], a, b[2], b[3]);
    }
  }
}

// Scores of keys first .. become what the probabilities' exponents are, to base 2; keys that a
// query does not see become -infinity.
template <int kPadded, bool kCoded, int kTiles>
__device__ __forceinline__ void scale_scores(const FlashShared<kPadded, kCoded>& shared,
                                             const QueryRows& rows, int first, int64_t window,
                                             bool masked, int lane, float (&s)[kTiles][4]) {
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = 8 * j + 2 * (lane % 4) + i % 2;
      float scale = rows.scales[i / 2];
      if constexpr (kCoded) scale *= shared.key_scales[column];
      s[j][i] *= scale;
      if constexpr (kCoded) s[j][i] += shared.exponents[column];
      if (masked) {
        const int behind = rows.positions[i / 2] - (first + column);
        if (behind < 0 || (window > 0 && behind >= window)) s[j][i] = -INFINITY;
      }
    }
  }
}

// One step of the online softmax: s becomes the probabilities that multiply the values.
template <int kPadded, bool kCoded, int kTiles>
__device__ __forceinline__ void flash_softmax(const FlashShared<kPadded, kCoded>& shared, int lane,
                                              float (&s)[kTiles][4], float (&tops)[2],
                                              float (&sums)[2], float (&output)[kPadded / 8][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float top = tops[r];
#pragma unroll
    for (int j = 0; j < kTiles; ++j)
      top = fmaxf(top, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
    const float base = top == -INFINITY ? 0.0f : top;  // a row that has seen no key yet
    const float factor = power_of_two(tops[r] - base);
    tops[r] = top;
    sums[r] *= factor;
#pragma unroll
    for (int f = 0; f < kPadded / 8; ++f) {
      output[f][2 * r] *= factor;
      output[f][2 * r + 1] *= factor;
    }
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        float p = power_of_two(s[j][2 * r + x] - base);
        if constexpr (kCoded) {
          const int column = 8 * j + 2 * (lane % 4) + x;
          sums[r] += p * shared.inverse_powers[column];
          p *= shared.mantissas[column];
        } else {
          sums[r] += p;
        }
        s[j][2 * r + x] = p;
      }
    }
  }
}

// Grid (tiles of 64 queries, last first; heads).
template <int kPadded, bool kCoded>
__global__ void __launch_bounds__(kFlashThreads) prefill_flash(const FlashArguments args) {
  using Shape = FlashShape<kPadded>;
  using Shared = FlashShared<kPadded, kCoded>;
  constexpr int kTiles = Shape::kKeys / 8;
  Shared& shared = *reinterpret_cast<Shared*>(dynamic_shared());
  const AttentionLayer& layer = args.layer;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / 32;
  const int lane = thread % 32;
  const int head = static_cast<int>(blockIdx.y);
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kFlashQueries;

  release_next();
  wait_for_previous();
  const SequenceState sequence = *args.sequence;
  const int stored = stored_bits(layer.kv_bits);
  const int row_bytes = cache_row_bytes(kPadded, stored);
  const CacheLayout layout =
      cache_layout(layer.kv_heads, layer.head_dim, layer.kv_bits, sequence.capacity);
  const CacheHead cache =
      cache_head(sequence, args.layer_offset, layout, head / (layer.heads / layer.kv_heads));
  const int64_t first_position = sequence.position + first_query;
  const int end = static_cast<int>(sequence.position + min(first_query + kFlashQueries, args.m));
  int first = 0;
  if (layer.window > 0 && first_position >= layer.window)
    first = static_cast<int>(first_position - layer.window + 1) / Shape::kKeys * Shape::kKeys;

  const int64_t query_row = static_cast<int64_t>(head) * args.m_padded + first_query;
  for (int i = thread; i < kFlashQueries * Shape::kChunks; i += kFlashThreads) {
    copy_async<16>(&shared.queries[swizzled_chunk(i / Shape::kChunks, i % Shape::kChunks, kPadded)],
                   args.queries + query_row * Shape::kChunks + i);
  }
  load_tile<kPadded>(cache, first, end, 0, row_bytes, shared);
  QueryRows rows;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int query = warp * 16 + lane / 4 + 8 * r;
    rows.positions[r] = static_cast<int>(first_position) + query;
    rows.scales[r] = args.query_scales[query_row + query] * args.score_scale;
  }
  float tops[2] = {-INFINITY, -INFINITY};
  float sums[2] = {};
  float output[kPadded / 8][4] = {};

  for (int buffer = 0; first < end; first += Shape::kKeys, buffer ^= 1) {
    const int next = first + Shape::kKeys;
    wait_copies();
    __syncthreads();
    const uint4* keys;
    const uint4* values;
    if constexpr (kCoded) {
      expand_tile(shared, stored);
      __syncthreads();
      keys = shared.tiles[0];
      values = shared.tiles[1];
    } else {
      keys = shared.tiles[buffer][0];
      values = shared.tiles[buffer][1];
    }
    if (next < end) load_tile<kPadded>(cache, next, end, buffer ^ 1, row_bytes, shared);

    float s[kTiles][4] = {};
    flash_scores<kPadded>(shared.queries, keys, warp, lane, s);
    const bool masked =
        next > first_position + 1 ||
        (layer.window > 0 && first <= first_position + kFlashQueries - 1 - layer.window);
    scale_scores<kPadded, kCoded>(shared, rows, first, layer.window, masked, lane, s);
    flash_softmax<kPadded, kCoded>(shared, lane, s, tops, sums, output);
    flash_values<kPadded>(values, lane, s, output);
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sums[r] += __shfl_xor_sync(kAllLanes, sums[r], 1);
    sums[r] += __shfl_xor_sync(kAllLanes, sums[r], 2);
    const int query = first_query + warp * 16 + lane / 4 + 8 * r;
    if (query >= args.m) continue;
    float* const y = args.y + query * args.y_stride + static_cast<int64_t>(head) * layer.head_dim;
#pragma unroll
    for (int f = 0; f < kPadded / 8; ++f) {
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        const int d = 8 * f + 2 * (lane % 4) + x;
        if (d < layer.head_dim) y[d] = output[f][2 * r + x] / sums[r];
      }
    }
  }
}

}  // namespace abq::runtime::cuda
