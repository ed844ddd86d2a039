#include "passes/fold_norms.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "test_model.h"

namespace abq::passes::testing {
namespace {

std::vector<float> floats(const ir::Module& module, const std::string& tensor) {
  return *ir::to_float(module.tensors.at(tensor));
}

bool all_ones(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return v == 1.0f; });
}

}  // namespace

TEST_CASE("fold-norms leaves the float function as it was and ones in every norm") {
  const ir::Module before = make_test_model();
  ir::Module after = make_test_model();
  PassContext context = context_for("w8a8");
  REQUIRE(run_passes({"fold-norms"}, after, context).ok());
  const std::vector<int32_t> tokens = make_windows(1, 20, 99)[0];
  const ir::Interpreter interpreter;
  // One more rounding of every weight.
  CHECK(relative_difference(*interpreter.logits(after, tokens),
                            *interpreter.logits(before, tokens)) < 1e-5);
  for (const char* norm : {"model.layers.0.input_layernorm.weight",
                           "model.layers.1.post_attention_layernorm.weight", "model.norm.weight"}) {
    CAPTURE(norm);
    CHECK(all_ones(floats(after, norm)));
    CHECK_FALSE(all_ones(floats(before, norm)));
  }
  for (const char* weight :
       {"model.layers.0.q_proj.weight", "model.layers.1.up_proj.weight", "lm_head.weight"}) {
    CAPTURE(weight);
    CHECK(after.tensors.at(weight).type.element == ir::ElementType::kF32);
  }
  // What no norm feeds keeps its bytes.
  CHECK(after.tensors.at("model.layers.0.o_proj.weight").type.element == ir::ElementType::kBF16);
}

TEST_CASE("a folded weight is the weight times the norm's over its columns") {
  const ir::Module before = make_test_model();
  ir::Module after = make_test_model();
  REQUIRE(fold_norms(after, region_named(after, "layers.1")).ok());
  const auto norm = floats(before, "model.layers.1.post_attention_layernorm.weight");
  const auto w = floats(before, "model.layers.1.gate_proj.weight");
  const auto folded = floats(after, "model.layers.1.gate_proj.weight");
  bool equal = true;
  for (size_t i = 0; i < w.size(); ++i)
    equal = equal && folded[i] == w[i] * norm[i % norm.size()];
  CHECK(equal);
  CHECK(floats(after, "model.layers.0.gate_proj.weight") ==
        floats(before, "model.layers.0.gate_proj.weight"));
}

TEST_CASE("a head that shares its weight with the embedding gets one of its own") {
  ir::Module module = make_test_model();
  for (ir::Node& node : region_named(module, "head").nodes)
    if (node.op == ir::Op::kWeight && node.string_attribute("tensor") == "lm_head.weight")
      node.attributes["tensor"] = std::string("model.embed_tokens.weight");
  const auto table = floats(module, "model.embed_tokens.weight");
  const std::vector<int32_t> tokens = make_windows(1, 20, 99)[0];
  const ir::Matrix before = *ir::Interpreter().logits(module, tokens);
  PassContext context = context_for("w8a8");
  const Status status = run_passes({"fold-norms"}, module, context);
  REQUIRE_MESSAGE(status.ok(), status.message());
  CHECK(floats(module, "model.embed_tokens.weight") == table);
  CHECK(relative_difference(*ir::Interpreter().logits(module, tokens), before) < 1e-5);
}

TEST_CASE("norms of ones leave their linears alone") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w8a8");
  REQUIRE(run_passes({"fold-norms"}, module, context).ok());
  const auto* first = module.tensors.at("model.layers.0.q_proj.weight").data.bytes().data();
  REQUIRE(run_passes({"fold-norms"}, module, context).ok());
  CHECK(module.tensors.at("model.layers.0.q_proj.weight").data.bytes().data() == first);
}

}  // namespace abq::passes::testing
