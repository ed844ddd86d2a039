#include "ir/patterns.h"

#include <doctest/doctest.h>

#include "tests/ir/tiny_model.h"

namespace abq::ir {

namespace {

int node_named(const Region& region, const std::string& name) {
  for (size_t i = 0; i < region.nodes.size(); ++i) {
    if (region.nodes[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

struct Fixture {
  Module module = make_tiny_model();
  Region& block = module.regions[1];

  int at(const char* name) const { return node_named(block, std::string("layers.0.") + name); }
  ValueId value(const char* name) const {
    return block.nodes[static_cast<size_t>(at(name))].result;
  }
  // One more reader of a value.
  void read(ValueId value) { Builder(module, block).add("layers.0.reader", value, value); }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a llama block has all its sites") {
  const std::vector<NormSite> norms = find_norm_sites(block);
  REQUIRE(norms.size() == 2);
  CHECK(norms[0].norm == at("input_norm"));
  CHECK(norms[0].linears == std::vector<int>{at("attn.q"), at("attn.k"), at("attn.v")});
  CHECK(norms[1].norm == at("post_norm"));
  CHECK(norms[1].linears == std::vector<int>{at("mlp.gate"), at("mlp.up")});

  const std::vector<ValueOutputSite> outputs = find_value_output_sites(block);
  REQUIRE(outputs.size() == 1);
  CHECK(outputs[0].value == at("attn.v"));
  CHECK(outputs[0].attention == at("attn.core"));
  CHECK(outputs[0].output == at("attn.o"));

  const std::vector<UpDownSite> downs = find_up_down_sites(block);
  REQUIRE(downs.size() == 1);
  CHECK(downs[0].up == at("mlp.up"));
  CHECK(downs[0].silu_mul == at("mlp.act"));
  CHECK(downs[0].down == at("mlp.down"));

  const std::vector<QueryKeySite> keys = find_query_key_sites(block);
  REQUIRE(keys.size() == 1);
  CHECK(keys[0].query == at("attn.q"));
  CHECK(keys[0].key == at("attn.k"));
  CHECK(keys[0].attention == at("attn.core"));
}

TEST_CASE_FIXTURE(Fixture, "a norm with a reader that is no linear is left out") {
  read(value("input_norm"));
  REQUIRE(find_norm_sites(block).size() == 1);
  CHECK(find_norm_sites(block)[0].norm == at("post_norm"));
}

TEST_CASE_FIXTURE(Fixture, "a norm that is a result of the region is left out") {
  block.results[0] = value("post_norm");
  CHECK(find_norm_sites(block).size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "a norm whose linears share a weight with another reader is left out") {
  block.nodes[static_cast<size_t>(at("mlp.up"))].operands[1] =
      block.nodes[static_cast<size_t>(at("mlp.gate"))].operands[1];
  CHECK(find_norm_sites(block).size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "an up projection with another reader is left out") {
  read(value("mlp.up"));
  CHECK(find_up_down_sites(block).empty());
}

TEST_CASE_FIXTURE(Fixture, "a transform between silu_mul and the down projection is said") {
  Node& down = block.nodes[static_cast<size_t>(at("mlp.down"))];
  CHECK(find_up_down_sites(block)[0].transform == -1);
  const ValueId turned = Builder(module, block).hadamard("layers.0.mlp.turn", down.operands[0], 8);
  block.nodes[static_cast<size_t>(at("mlp.down"))].operands[0] = turned;
  const std::vector<UpDownSite> sites = find_up_down_sites(block);
  REQUIRE(sites.size() == 1);
  CHECK(sites[0].transform == at("mlp.turn"));
  CHECK(sites[0].down == at("mlp.down"));
}

TEST_CASE_FIXTURE(Fixture, "a v projection or attention output with another reader is left out") {
  SUBCASE("v") {
    read(value("attn.v"));
  }
  SUBCASE("attention") {
    read(value("attn.core"));
  }
  CHECK(find_value_output_sites(block).empty());
  CHECK(find_query_key_sites(block).size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "q and k projections are a site only when rope and attention own them") {
  SUBCASE("q read twice") {
    read(value("attn.q"));
  }
  SUBCASE("rotated k read twice") {
    read(value("attn.k_rope"));
  }
  CHECK(find_query_key_sites(block).empty());
  CHECK(find_value_output_sites(block).size() == 1);
}

TEST_CASE("a region without attention or mlp has no such sites") {
  Module module = make_tiny_model();
  const Region& head = module.regions.back();
  CHECK(find_norm_sites(head).size() == 1);
  CHECK(find_value_output_sites(head).empty());
  CHECK(find_up_down_sites(head).empty());
  CHECK(find_query_key_sites(head).empty());
}

}  // namespace abq::ir
