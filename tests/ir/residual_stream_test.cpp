#include "ir/residual_stream.h"

#include <doctest/doctest.h>

#include "tests/ir/tiny_model.h"

namespace abq::ir {

namespace {

struct Fixture {
  Module module = make_tiny_model();
  Region& block = module.regions[1];

  int at(const Region& region, const std::string& name) const {
    for (size_t i = 0; i < region.nodes.size(); ++i)
      if (region.nodes[i].name == name) return static_cast<int>(i);
    return -1;
  }
  int at(const char* name) const { return at(block, std::string("layers.0.") + name); }
  Node& node(const char* name) { return block.nodes[static_cast<size_t>(at(name))]; }
  std::string refusal(const Region& region) const {
    const Result<ResidualStream> stream = find_residual_stream(region);
    REQUIRE(!stream.ok());
    CHECK(stream.status().code() == StatusCode::kUnsupported);
    return stream.status().message();
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a block reads the stream by its norms and writes it by o and down") {
  const Result<ResidualStream> stream = find_residual_stream(block);
  REQUIRE_MESSAGE(stream.ok(), stream.status().message());
  CHECK(stream->width == 16);
  CHECK(stream->embedding == -1);
  CHECK(stream->norms == std::vector<int>{at("input_norm"), at("post_norm")});
  CHECK(stream->readers ==
        std::vector<int>{at("attn.q"), at("attn.k"), at("attn.v"), at("mlp.gate"), at("mlp.up")});
  CHECK(stream->writers == std::vector<int>{at("attn.o"), at("mlp.down")});
}

TEST_CASE_FIXTURE(Fixture, "the embedding begins the stream and the head reads it once more") {
  const Result<ResidualStream> embed = find_residual_stream(module.regions.front());
  REQUIRE_MESSAGE(embed.ok(), embed.status().message());
  CHECK(embed->embedding >= 0);
  CHECK(embed->width == 16);
  const Region& head = module.regions.back();
  const Result<ResidualStream> last = find_residual_stream(head);
  REQUIRE_MESSAGE(last.ok(), last.status().message());
  CHECK(last->norms.size() == 1);
  CHECK(last->readers.size() == 1);
  CHECK(last->writers.empty());
}

TEST_CASE_FIXTURE(Fixture, "what reads the stream in another way is named") {
  SUBCASE("an elementwise product") {
    const ValueId x = block.arguments[0];
    Builder(module, block).silu_mul("layers.0.gated", x, x);
    CHECK(refusal(block).find("layers.0.gated: silu_mul reads the residual stream") == 0);
  }
  SUBCASE("a norm that is added") {
    const ValueId normed = node("post_norm").result;
    Builder(module, block).add("layers.0.sum", normed, normed);
    CHECK(refusal(block).find("layers.0.post_norm: its result is read by more than linears") == 0);
  }
  SUBCASE("a sum with what is no linear's result") {
    node("mlp_residual").operands[1] = node("mlp.act").result;
    block.values[static_cast<size_t>(node("mlp.act").result)].type = activation_type(16);
    CHECK(refusal(block).find("layers.0.mlp_residual: adds %act to the residual stream") == 0);
  }
  SUBCASE("a result beside the stream") {
    block.results[0] = node("mlp.act").result;
    CHECK(refusal(block) ==
          "layers.0: its result is not the residual stream, expected sums that begin with its "
          "argument");
  }
}

}  // namespace abq::ir
