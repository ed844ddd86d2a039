#include "test_model.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "support/random.h"

namespace abq::passes::testing {
namespace {

ir::Type activation(int64_t columns) {
  return {ir::ElementType::kF32, 0, {ir::kTokenDim, columns}};
}

ir::Tensor random_weight(Random& random, std::vector<int64_t> shape, double deviation,
                         double mean = 0) {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  // Truncating a float32's low half gives a bf16 value.
  std::vector<uint16_t> values(static_cast<size_t>(count));
  for (uint16_t& value : values) {
    const auto drawn = static_cast<float>(mean + deviation * random.normal());
    value = static_cast<uint16_t>(std::bit_cast<uint32_t>(drawn) >> 16);
  }
  ir::Tensor tensor;
  tensor.type = {ir::ElementType::kBF16, 0, std::move(shape)};
  tensor.data = ir::TensorData::from_vector(values);
  return tensor;
}

ir::Region make_block(ir::Module& module, Random& random, const std::string& name) {
  ir::Region region;
  region.name = name;
  ir::Builder b(module, region);
  const auto weight = [&](const std::string& tensor, std::vector<int64_t> shape) {
    return b.weight("model." + name + "." + tensor + ".weight",
                    random_weight(random, std::move(shape), 0.12));
  };
  const auto norm_weight = [&](const std::string& tensor) {
    return b.weight("model." + name + "." + tensor + ".weight",
                    random_weight(random, {kHidden}, 0.4, 1.0));
  };
  const auto layer = [&](const std::string& part) { return name + "." + part; };

  const ir::ValueId x = b.argument("x", activation(kHidden));
  const ir::ValueId n1 = b.rms_norm(layer("attn_norm"), x, norm_weight("input_layernorm"), 1e-5);
  ir::ValueId q = b.linear(layer("attn.q"), n1, weight("q_proj", {kHeads * kHeadDim, kHidden}));
  ir::ValueId k = b.linear(layer("attn.k"), n1, weight("k_proj", {kKvHeads * kHeadDim, kHidden}));
  const ir::ValueId v =
      b.linear(layer("attn.v"), n1, weight("v_proj", {kKvHeads * kHeadDim, kHidden}));
  q = b.rope(layer("attn.q_rope"), q, kHeadDim, "rope.frequencies");
  k = b.rope(layer("attn.k_rope"), k, kHeadDim, "rope.frequencies");
  const ir::ValueId a =
      b.node(ir::Op::kAttention, layer("attn"), {q, k, v}, activation(kHeads * kHeadDim),
             {{"layer", int64_t{name.back() - '0'}},
              {"heads", kHeads},
              {"kv_heads", kKvHeads},
              {"head_dim", kHeadDim},
              {"window", int64_t{0}},
              {"query_bits", int64_t{16}},
              {"kv_bits", int64_t{16}}});
  const ir::ValueId o =
      b.linear(layer("attn.o"), a, weight("o_proj", {kHidden, kHeads * kHeadDim}));
  const ir::ValueId h = b.add(layer("attn_add"), x, o);
  const ir::ValueId n2 =
      b.rms_norm(layer("mlp_norm"), h, norm_weight("post_attention_layernorm"), 1e-5);
  const ir::ValueId gate = b.linear(layer("mlp.gate"), n2, weight("gate_proj", {kFfn, kHidden}));
  const ir::ValueId up = b.linear(layer("mlp.up"), n2, weight("up_proj", {kFfn, kHidden}));
  const ir::ValueId act = b.silu_mul(layer("mlp.act"), gate, up);
  const ir::ValueId down = b.linear(layer("mlp.down"), act, weight("down_proj", {kHidden, kFfn}));
  b.result(b.add(layer("mlp_add"), h, down));
  return region;
}

}  // namespace

ir::Module make_test_model(uint64_t seed) {
  Random random(seed);
  ir::Module module;
  module.name = "test";
  module.attributes = {{"vocab_size", kVocab},   {"hidden_size", kHidden},   {"layers", kLayers},
                       {"heads", kHeads},        {"kv_heads", kKvHeads},     {"head_dim", kHeadDim},
                       {"context", int64_t{64}}, {"intermediate_size", kFfn}};
  std::vector<float> frequencies;
  for (int64_t j = 0; j < kHeadDim / 2; ++j)
    frequencies.push_back(static_cast<float>(
        std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(kHeadDim))));
  module.tensors["rope.frequencies"] = ir::make_f32_tensor({kHeadDim / 2}, frequencies);

  ir::Region embed;
  embed.kind = ir::RegionKind::kEmbed;
  embed.name = "embed";
  ir::Builder e(module, embed);
  const ir::ValueId tokens = e.argument("tokens", {ir::ElementType::kI32, 0, {ir::kTokenDim}});
  const ir::ValueId table =
      e.weight("model.embed_tokens.weight", random_weight(random, {kVocab, kHidden}, 1.0));
  e.result(e.embedding("embed", tokens, table));
  module.regions.push_back(std::move(embed));

  for (int64_t i = 0; i < kLayers; ++i)
    module.regions.push_back(make_block(module, random, fmt::format("layers.{}", i)));

  ir::Region head;
  head.kind = ir::RegionKind::kHead;
  head.name = "head";
  ir::Builder b(module, head);
  const ir::ValueId x = b.argument("x", activation(kHidden));
  const ir::ValueId norm = b.weight("model.norm.weight", random_weight(random, {kHidden}, 0.2, 1));
  const ir::ValueId w = b.weight("lm_head.weight", random_weight(random, {kVocab, kHidden}, 0.1));
  b.result(b.linear("head.logits", b.rms_norm("head.norm", x, norm, 1e-5), w));
  module.regions.push_back(std::move(head));
  return module;
}

const ir::Region& region_named(const ir::Module& module, const std::string& name) {
  const auto found = std::find_if(module.regions.begin(), module.regions.end(),
                                  [&](const ir::Region& region) { return region.name == name; });
  REQUIRE(found != module.regions.end());
  return *found;
}

ir::Region& region_named(ir::Module& module, const std::string& name) {
  return const_cast<ir::Region&>(region_named(std::as_const(module), name));
}

const ir::Node& node_named(const ir::Region& region, const std::string& name) {
  const auto found = std::find_if(region.nodes.begin(), region.nodes.end(),
                                  [&](const ir::Node& node) { return node.name == name; });
  REQUIRE(found != region.nodes.end());
  return *found;
}

std::vector<std::vector<int32_t>> make_windows(int64_t windows, int64_t tokens, uint64_t seed) {
  Random random(seed);
  std::vector<std::vector<int32_t>> all(static_cast<size_t>(windows),
                                        std::vector<int32_t>(static_cast<size_t>(tokens)));
  for (std::vector<int32_t>& window : all)
    for (int32_t& token : window)
      token = static_cast<int32_t>(random.below(static_cast<uint64_t>(kVocab)));
  return all;
}

Status run_passes(const std::vector<std::string>& names, ir::Module& module, PassContext& context) {
  PassManager manager({});
  for (const std::string& name : names)
    ABQ_RETURN_IF_ERROR(manager.add(name));
  return manager.run(module, context);
}

PassContext context_for(const std::string& scheme) {
  Result<quant::Scheme> parsed = quant::parse_scheme(scheme);
  REQUIRE(parsed.ok());
  PassContext context;
  context.recipe.scheme = *parsed;
  return context;
}

double relative_difference(const ir::Matrix& a, const ir::Matrix& b) {
  REQUIRE(a.data.size() == b.data.size());
  float largest = 0;
  float difference = 0;
  for (size_t i = 0; i < b.data.size(); ++i) {
    largest = std::max(largest, std::fabs(b.data[i]));
    difference = std::max(difference, std::fabs(a.data[i] - b.data[i]));
  }
  return static_cast<double>(difference) / static_cast<double>(largest);
}

}  // namespace abq::passes::testing
