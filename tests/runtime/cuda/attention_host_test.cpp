// What runs without a GPU: index arithmetic, and the kernels themselves as host code on small
// cases.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "attention_cases.h"
#include "attention_fused_cases.h"
#include "attention_fused_on_host.h"
#include "attention_kernels_on_host.h"
#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/attention/rotation.cuh"

namespace abq::runtime::cuda {
namespace {

constexpr int kPaddedSizes[] = {64, 128, 256};
constexpr int kStoredWidths[] = {2, 4, 8, 16};

AttentionCase host_case() {
  AttentionCase test;
  test.runs = 1;  // a host's run repeats itself
  return test;
}

}  // namespace

TEST_CASE("cache parts are aligned, disjoint and fill the layer's bytes") {
  for (const int head_dim : {2, 32, 64, 66, 96, 128, 130, 256}) {
    for (const int kv_bits : {2, 3, 4, 5, 8, 16}) {
      for (const int64_t capacity : {64, 192, 4096}) {
        const CacheLayout layout = cache_layout(3, head_dim, kv_bits, capacity);
        int64_t end = 0;
        for (const bool values : {false, true}) {
          for (int head = 0; head < 3; ++head) {
            CHECK(layout.rows_at(values, head) == end);
            end += capacity * layout.row_bytes;
            CHECK(end % 16 == 0);
          }
        }
        CHECK(layout.row_bytes % 16 == 0);
        CHECK(layout.row_bytes * 8 >= head_dim * kv_bits);
        for (const bool values : {false, true}) {
          for (int head = 0; head < 3 && layout.has_params; ++head) {
            CHECK(layout.params_at(values, head) == end);
            end += capacity * 8;
            CHECK(end % 16 == 0);
          }
        }
        AttentionLayer layer;
        layer.heads = 6;
        layer.kv_heads = 3;
        layer.head_dim = head_dim;
        layer.kv_bits = kv_bits;
        CHECK(end == capacity * cache_token_bytes(layer));
      }
    }
  }
}

TEST_CASE("every element of a key row has a slot of its own") {
  for (const int padded : kPaddedSizes) {
    for (const int stored : kStoredWidths) {
      std::set<int> slots;
      for (int d = 0; d < padded; ++d) {
        const KeySlot slot = key_slot(d, padded, stored);
        CHECK(slot.t >= 0);
        CHECK(slot.t < 4);
        CHECK(slot.pair < padded / 8);
        slots.insert((slot.t * (padded / 8) + slot.pair) * 2 + slot.half);
      }
      CHECK(slots.size() == static_cast<size_t>(padded));
    }
  }
}

TEST_CASE("output tiles cover every element of a value row once") {
  for (const int padded : kPaddedSizes) {
    for (const int stored : kStoredWidths) {
      std::set<int> elements;
      for (int tile = 0; tile < padded / 8; ++tile) {
        for (int g = 0; g < 8; ++g)
          elements.insert(value_element(tile, g, padded, stored));
      }
      CHECK(elements.size() == static_cast<size_t>(padded));
      CHECK(*elements.begin() == 0);
      CHECK(*elements.rbegin() == padded - 1);
    }
  }
}

TEST_CASE("parts of a sequence are whole multiples and cover what is visible") {
  for (const int kv_heads : {1, 4, 8, 32, 40}) {
    for (const int64_t window : {0, 7, 64, 5000}) {
      for (const int64_t position : {0, 1, 63, 64, 400, 1023, 1024, 8191, 100000}) {
        const SplitPlan plan = plan_splits(position, window, kv_heads);
        CHECK(plan.end == position + 1);
        CHECK(plan.begin == (window > 0 && position >= window ? position + 1 - window : 0));
        CHECK(plan.part % kSplitTokens == 0);
        CHECK(plan.parts >= 1);
        CHECK((plan.parts - 1) * plan.part < plan.end - plan.begin);
        CHECK(plan.parts * plan.part >= plan.end - plan.begin);
        for (const int64_t bound : {position + 1, position + 300, 4 * position + 1})
          CHECK(plan.parts <= split_bound(bound, window, kv_heads));
      }
    }
  }
}

TEST_CASE("cosine and sine are the library's, rounded once") {
  int64_t wrong = 0;
  int64_t count = 0;
  for (int64_t position = 0; position < 200000; position = position * 9 / 8 + 1) {
    for (int j = 0; j < 64; ++j) {
      const auto frequency = static_cast<float>(std::pow(10000.0, -j / 64.0));
      const double angle = static_cast<double>(position) * static_cast<double>(frequency);
      const Rotation r = rotation(position, frequency);
      const auto cosine = static_cast<float>(std::cos(angle));
      const auto sine = static_cast<float>(std::sin(angle));
      wrong += (r.cosine != cosine) + (r.sine != sine);
      count += 2;
      CHECK(std::fabs(r.cosine - cosine) <= 0x1p-23f);
      CHECK(std::fabs(r.sine - sine) <= 0x1p-23f);
    }
  }
  CHECK(wrong * 10000 <= count);
}

TEST_CASE("kernels run on the host agree with the reference: every width") {
  for (const int kv_bits : {16, 8, 4, 3, 2}) {
    AttentionCase test = host_case();
    test.heads = 2;
    test.kv_heads = 1;
    test.kv_bits = kv_bits;
    test.query_bits = kv_bits == 8 ? 16 : kv_bits;
    test.prompts = {{70}, {3}};
    test.decoded = 2;
    test.token_bits = kv_bits < 16 ? kv_bits : 8;
    test.seed = static_cast<uint64_t>(kv_bits);
    check_attention(test);
  }
}

TEST_CASE("kernels run on the host agree with the reference: head sizes") {
  for (const int head_dim : {34, 96, 128, 256}) {
    for (const int kv_bits : {16, 8, 2}) {
      AttentionCase test = host_case();
      test.heads = 1;
      test.kv_heads = 1;
      test.head_dim = head_dim;
      test.kv_bits = kv_bits;
      test.query_bits = kv_bits == 2 ? 4 : 16;
      test.prompts = {{33, 5}};
      test.decoded = 2;
      test.seed = static_cast<uint64_t>(head_dim + kv_bits);
      check_attention(test);
    }
  }
}

TEST_CASE("kernels run on the host transform heads behind the rotation with the CPU's bits") {
  for (const int head_dim : {2, 16, 32, 64, 128, 256}) {
    for (const int kv_bits : {16, 4}) {
      AttentionCase test = host_case();
      test.heads = 2;
      test.kv_heads = 1;
      test.head_dim = head_dim;
      test.kv_bits = kv_bits;
      test.query_bits = kv_bits;
      test.transformed = true;
      test.rotated = head_dim != 16;
      test.prompts = {{33, 5}};
      test.decoded = 2;
      test.seed = static_cast<uint64_t>(head_dim + kv_bits);
      check_attention(test);
    }
  }
}

TEST_CASE("transformed heads of other sizes than powers of two are refused") {
  AttentionLayer layer{.heads = 1, .kv_heads = 1, .head_dim = 96};
  CHECK(check_attention(layer).ok());
  layer.key_transform = 1.0f;
  CHECK(check_attention(layer).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("kernels run on the host agree with the reference: windows, parts and many query heads") {
  AttentionCase test = host_case();
  test.heads = 11;
  test.kv_heads = 1;
  test.kv_bits = 8;
  test.prompts = {{1}, {80}};
  test.decoded = 1;
  check_attention(test);
  test.heads = 2;
  test.window = 40;
  test.kv_bits = 4;
  test.prompts = {{60, 70}, {10}};
  test.decoded = 2;
  check_attention(test);
  test.window = 0;
  test.prompts = {{150}};
  test.kv_bits = 16;
  test.query_bits = 8;
  test.rotated = false;
  check_attention(test);
}

TEST_CASE("kernels run on the host agree with the reference: parts of several tiles") {
  // So many kv heads have four parts at most: a warp takes several tiles in turn.
  AttentionCase test = host_case();
  test.heads = 96;
  test.kv_heads = 96;
  test.kv_bits = 4;
  test.rotated = false;
  test.prompts = {{331}};
  test.decoded = 1;
  test.decode_only = true;
  check_attention(test);
}

TEST_CASE("kernels run on the host quantize rows of several clusters' blocks") {
  for (const bool clusters : {true, false}) {
    host_kernels_use_clusters = clusters;
    AttentionCase test = host_case();
    test.heads = 18;
    test.kv_heads = 9;
    test.head_dim = 66;
    test.kv_bits = 4;
    test.prompts = {{2}};
    test.decoded = 1;
    test.token_bits = 5;
    check_attention(test);
  }
  host_kernels_use_clusters = true;
}

TEST_CASE("what surrounds cuDNN's attention, run on the host, agrees with the reference") {
  HostFusedAttention fused;
  check_fused_cases(fused, 24);
}

TEST_CASE("what surrounds cuDNN's attention fills whole tiles for padded and transformed heads") {
  HostFusedAttention fused;
  for (const int kv_bits : {16, 8, 3, 2}) {
    AttentionCase test = host_case();
    test.heads = 2;
    test.kv_heads = 1;
    test.head_dim = kv_bits == 16 ? 80 : kv_bits == 2 ? 256 : 32;
    test.kv_bits = kv_bits;
    test.query_bits = kv_bits;
    test.transformed = kv_bits == 3;
    test.prompts = {{255, 2}, {9}};
    test.fused = &fused;
    check_attention(test);
  }
}

TEST_CASE("cuDNN is not asked about windows and sequences that take too much memory") {
  AttentionLayer layer{.heads = 32, .kv_heads = 32, .head_dim = 128};
  CHECK(fused_can_run(layer, 32768));
  CHECK(fused_is_faster(layer, 512, 32768));
  CHECK_FALSE(fused_can_run(layer, 131072));
  CHECK_FALSE(fused_is_faster(layer, 512, 131072));
  layer.window = 4096;
  CHECK_FALSE(fused_can_run(layer, 512));
  HostFusedAttention fused;
  const Status status =
      fused_prefill_attention(fused, layer, 0, {}, nullptr, 4, 4, nullptr, 0, {}, nullptr);
  CHECK(status.code() == StatusCode::kUnsupported);
}

TEST_CASE("cuDNN's attention is refused a workspace that is too small") {
  const AttentionLayer layer{.heads = 2, .kv_heads = 1, .head_dim = 64};
  HostFusedAttention fused;
  const int64_t bytes = fused_workspace_bytes(fused, layer, 300, 700);
  const Status status = fused_prefill_attention(fused, layer, 0, {}, nullptr, 300, 700, nullptr, 0,
                                                {.data = nullptr, .bytes = bytes - 1}, nullptr);
  CHECK(status.code() == StatusCode::kInvalidArgument);
}

TEST_CASE("a few plans of cuDNN's attention serve all chunks") {
  const AttentionLayer layer{.heads = 6, .kv_heads = 2, .head_dim = 96};
  const FusedAttentionShape shape = fused_shape(layer, 2);
  CHECK(shape == FusedAttentionShape{6, 2, 96, 128, 512, false, false});
  CHECK(fused_shape(layer, 512) == shape);
  CHECK(fused_shape(layer, 513).queries == 1024);
  CHECK(fused_shape(layer, 2048).queries == 2048);
}

TEST_CASE("scales are cuDNN's where queries are quantized, so that scores are exact") {
  AttentionLayer layer{.heads = 6, .kv_heads = 2, .head_dim = 96};
  layer.kv_bits = 8;
  CHECK_FALSE(fused_shape(layer, 2).key_scales);
  layer.query_bits = 8;
  CHECK(fused_shape(layer, 2).query_scales);
  CHECK(fused_shape(layer, 2).key_scales);
  layer.kv_bits = 16;
  CHECK(fused_shape(layer, 2).query_scales);
  CHECK_FALSE(fused_shape(layer, 2).key_scales);
}

TEST_CASE("rope run on the host rotates rows and batches") {
  check_rope(64, 640, 2, false);
  check_rope(10, 30, 3, true);
}

}  // namespace abq::runtime::cuda
