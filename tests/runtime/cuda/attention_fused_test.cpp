// Attention of prompts through cuDNN on a GPU. Where the machine has no cuDNN this says so, unless
// ABQ_REQUIRE_CUDNN=1 asks for a failure.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string_view>

#include "attention_fused_cases.h"

namespace abq::runtime::cuda {
namespace {

// Null, with a message, where there is no cuDNN.
std::unique_ptr<FusedAttention> fused_attention() {
  Result<std::unique_ptr<FusedAttention>> fused = FusedAttention::create();
  if (fused.ok()) return std::move(fused).value();
  const char* const required = std::getenv("ABQ_REQUIRE_CUDNN");
  REQUIRE_MESSAGE((required == nullptr || std::string_view(required) != "1"),
                  fused.status().to_string());
  MESSAGE("skipped: ", fused.status().to_string());
  return nullptr;
}

}  // namespace

TEST_CASE("cuDNN agrees with the reference at every width, group and head size") {
  const auto fused = fused_attention();
  if (fused == nullptr) return;
  check_fused_cases(*fused, 389);
}

TEST_CASE("cuDNN agrees with the reference for long prompts") {
  const auto fused = fused_attention();
  if (fused == nullptr) return;
  for (const int kv_bits : {16, 8}) {
    AttentionCase test;
    test.heads = 3;
    test.kv_heads = 1;
    test.head_dim = 128;
    test.kv_bits = kv_bits;
    test.prompts = {{2048}, {512, 512, 512, 511}};
    test.fused = fused.get();
    check_attention(test);
  }
}

TEST_CASE("cuDNN runs heads whose rows are padded, and transformed heads") {
  const auto fused = fused_attention();
  if (fused == nullptr) return;
  for (const int head_dim : {32, 80, 96, 256}) {
    AttentionCase test;
    test.head_dim = head_dim;
    test.kv_bits = head_dim == 80 ? 16 : 8;
    test.transformed = head_dim == 32;
    test.prompts = {{130}, {64, 65}};
    test.fused = fused.get();
    check_attention(test);
  }
}

TEST_CASE("cuDNN refuses heads that it has no kernel for, and keeps the answer") {
  const auto fused = fused_attention();
  if (fused == nullptr) return;
  const FusedAttentionShape shape{4, 4, 34, 64, 512, false, false};
  const Status first = fused->prepare(shape);
  CHECK(first.code() == StatusCode::kUnsupported);
  CHECK(fused->prepare(shape).message() == first.message());
}

}  // namespace abq::runtime::cuda
