#include "ir/graph.h"

#include <doctest/doctest.h>

#include "tests/ir/tiny_model.h"

namespace abq::ir {

TEST_CASE("the builder names values after the last part of node and tensor, made unique") {
  Module module;
  Region region;
  Builder builder(module, region);
  const ValueId x = builder.argument("x", activation_type(2));
  const ValueId w = builder.weight("layers.0.q_proj.weight", make_f32_tensor({2, 2}, {1, 0, 0, 1}));
  const ValueId s = builder.weight("layers.0.q_proj.weight.scales", make_f32_tensor({1}, {1}));
  const ValueId short_name = builder.weight("table", make_f32_tensor({1}, {1}));
  const ValueId y = builder.linear("layers.0.q", x, w);
  const ValueId z = builder.linear("layers.1.q", y, w);
  const auto name = [&](ValueId value) { return region.values[static_cast<size_t>(value)].name; };
  CHECK(name(w) == "q_proj_weight");
  CHECK(name(s) == "q_proj_weight_scales");
  CHECK(name(short_name) == "table");
  CHECK(name(y) == "q");
  CHECK(name(z) == "q_1");
  CHECK(region.producer(x) == -1);
  CHECK(region.producer(y) == 3);
  CHECK(region.users(w) == std::vector<int>{3, 4});
}

TEST_CASE("a replaced weight keeps its name and gives its value the new type") {
  Module module = make_tiny_model();
  Region& block = module.regions[1];
  const ValueId w =
      block.nodes[static_cast<size_t>(block.users(block.arguments[0])[0])].operands[1];
  const std::string name = module.weight_name(block, w);
  const Tensor half = make_tensor(ElementType::kF16, 0, {16}, {});
  module.replace_weight(block, w, half);
  CHECK(module.weight_name(block, w) == name);
  CHECK(module.weight_tensor(block, w).type == half.type);
  CHECK(block.type(w) == half.type);
}

TEST_CASE("replacing a weight that another region reads leaves the other region's tensor alone") {
  Module module;
  module.regions.resize(2);
  module.regions[0].name = "embed";
  module.regions[1].name = "head";
  const ValueId table =
      Builder(module, module.regions[0]).weight("table", make_f32_tensor({1, 1}, {1}));
  const ValueId tied = Builder(module, module.regions[1]).weight("table", Tensor{});
  CHECK(module.tensor_readers("table") == 2);
  module.replace_weight(module.regions[1], tied, make_f32_tensor({1, 1}, {2}));
  CHECK(module.weight_name(module.regions[1], tied) == "table.head");
  CHECK(*to_float(module.weight_tensor(module.regions[0], table)) == std::vector<float>{1});
  CHECK(*to_float(module.weight_tensor(module.regions[1], tied)) == std::vector<float>{2});
}

TEST_CASE("unused weights go, and their tensors when nothing else reads them") {
  Module module;
  module.regions.resize(2);
  Builder first(module, module.regions[0]);
  Builder second(module, module.regions[1]);
  const Tensor one = make_f32_tensor({1}, {1});
  first.weight("shared", one);
  first.weight("alone", one);
  const ValueId used = first.weight("used", one);
  first.weight("frequencies", one);
  second.weight("shared", one);
  const ValueId x = first.argument("x", activation_type(1));
  first.result(first.rms_norm("norm", x, used, 1e-5));
  second.rope("rope", second.argument("x", activation_type(2)), 2, "frequencies");
  remove_unused_weights(module, module.regions[0]);
  CHECK(module.regions[0].nodes.size() == 2);
  CHECK(module.tensors.contains("shared"));
  CHECK_FALSE(module.tensors.contains("alone"));
  CHECK(module.tensors.contains("used"));
  CHECK(module.tensors.contains("frequencies"));
}

TEST_CASE("a weight quantizer and the attributes that name it are the same thing") {
  Node node;
  const quant::WeightSpec spec = {2, true, 64, true};
  node.attributes = weight_spec_attributes(spec);
  CHECK(weight_spec(node) == spec);
}

}  // namespace abq::ir
