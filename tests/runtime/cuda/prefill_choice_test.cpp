// Which attention runs a prompt's chunk, and what is said where it is not the one that was wanted.
#include "runtime/cuda/engine/prefill_choice.h"

#include <doctest/doctest.h>

#include <vector>

#include "attention_fused_on_host.h"

namespace abq::runtime::cuda {
namespace {

std::vector<AttentionLayer> model(int layers, int head_dim = 128) {
  AttentionLayer layer;
  layer.heads = 32;
  layer.kv_heads = 8;
  layer.head_dim = head_dim;
  layer.kv_bits = 8;
  return std::vector<AttentionLayer>(static_cast<size_t>(layers), layer);
}

Result<std::unique_ptr<FusedAttention>> open_host() {
  return std::unique_ptr<FusedAttention>(std::make_unique<HostFusedAttention>());
}
Result<std::unique_ptr<FusedAttention>> open_nothing() {
  return unsupported("no cuDNN here");
}
Result<std::unique_ptr<FusedAttention>> open_never() {
  FAIL("cuDNN is not to be opened");
  return unsupported("");
}

}  // namespace

TEST_CASE("long chunks and long pasts of a large model go through cuDNN") {
  const std::vector<AttentionLayer> layers = model(4);
  PrefillChoice choice;
  REQUIRE(choice.start(PrefillAttention::kAuto, layers, open_host).ok());
  CHECK(choice(layers[0], 512, 512) != nullptr);
  CHECK(choice(layers[0], 256, 256) != nullptr);
  CHECK(choice(layers[0], 64, 2048) != nullptr);
  CHECK(choice(layers[0], 64, 64) == nullptr);
  CHECK(choice(layers[0], 16, 2048) == nullptr);
  CHECK(choice.take_notice().empty());
}

TEST_CASE("cuDNN is not loaded for small models, windows, or against the wish") {
  const std::vector<AttentionLayer> small = model(3);
  PrefillChoice choice;
  REQUIRE(choice.start(PrefillAttention::kAuto, small, open_never).ok());
  CHECK(choice(small[0], 512, 512) == nullptr);

  std::vector<AttentionLayer> windowed = model(32);
  for (AttentionLayer& layer : windowed)
    layer.window = 4096;
  REQUIRE(choice.start(PrefillAttention::kCudnn, windowed, open_never).ok());
  CHECK(choice(windowed[0], 512, 512) == nullptr);

  const std::vector<AttentionLayer> large = model(32);
  REQUIRE(choice.start(PrefillAttention::kOwn, large, open_never).ok());
  CHECK(choice(large[0], 512, 512) == nullptr);
}

TEST_CASE("without cuDNN prompts run on our kernel, and the reason is told once") {
  const std::vector<AttentionLayer> layers = model(32);
  PrefillChoice choice;
  REQUIRE(choice.start(PrefillAttention::kAuto, layers, open_nothing).ok());
  CHECK(choice(layers[0], 64, 64) == nullptr);
  CHECK(choice.take_notice().empty());  // nobody has missed it yet
  CHECK(choice(layers[0], 512, 512) == nullptr);
  CHECK(choice(layers[0], 512, 1024) == nullptr);
  CHECK(choice.take_notice() == "no cuDNN here");
  CHECK(choice.take_notice().empty());
}

TEST_CASE("layers that cuDNN refuses run on our kernel, others beside them through cuDNN") {
  std::vector<AttentionLayer> layers = model(32);
  layers[1].head_dim = 100;  // not a multiple of eight
  PrefillChoice choice;
  REQUIRE(choice.start(PrefillAttention::kAuto, layers, open_host).ok());
  CHECK(choice(layers[1], 512, 512) == nullptr);
  CHECK(choice(layers[0], 512, 512) != nullptr);
  CHECK(choice.take_notice() == "heads of 100 elements");
}

TEST_CASE("cuDNN that is asked for runs small models and short chunks, or is an error") {
  const std::vector<AttentionLayer> layers = model(1);
  PrefillChoice choice;
  REQUIRE(choice.start(PrefillAttention::kCudnn, layers, open_host).ok());
  CHECK(choice(layers[0], 2, 2) != nullptr);
  PrefillChoice missing;
  const Status status = missing.start(PrefillAttention::kCudnn, layers, open_nothing);
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(status.message() == "attention of prompts through cuDNN: no cuDNN here");
}

}  // namespace abq::runtime::cuda
