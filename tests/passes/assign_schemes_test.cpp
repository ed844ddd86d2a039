#include <doctest/doctest.h>

#include "test_model.h"

namespace abq::passes::testing {

TEST_CASE("assign-schemes gives every block linear its scheme and attention its widths") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8-kv8-q6");
  context.recipe.overrides = {{"layers.1.mlp.*", *quant::parse_scheme("w8a16")}};
  REQUIRE(run_passes({"assign-schemes"}, module, context).ok());
  CHECK(context.layer_schemes.size() == 14);  // the head is not a block linear
  CHECK(quant::to_string(context.layer_schemes.at("layers.0.mlp.up")) == "w4a8");
  CHECK(quant::to_string(context.layer_schemes.at("layers.1.mlp.up")) == "w8a16");
  for (const char* block : {"layers.0", "layers.1"}) {
    const ir::Node& attention =
        node_named(region_named(module, block), std::string(block) + ".attn");
    CHECK(attention.int_attribute("kv_bits") == 8);
    CHECK(attention.int_attribute("query_bits") == 6);
  }
}

TEST_CASE("a pattern that matches nothing is refused with near names") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  context.recipe.overrides = {{"layers.0.mlp.dwn", *quant::parse_scheme("w8a8")}};
  const Status status = run_passes({"assign-schemes"}, module, context);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() ==
        "pass assign-schemes: override 'layers.0.mlp.dwn': matches no block linear; near names are "
        "layers.0.mlp.down, layers.1.mlp.down, layers.0.mlp.up");
}

TEST_CASE("all layers that a group size does not fit are reported together") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8-g64");  // K = 64 fits, K = 96 of down does not
  const Status status = run_passes({"assign-schemes"}, module, context);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("layers.0.mlp.down: group size 64 does not divide K=96") !=
        std::string::npos);
  CHECK(status.message().find("layers.1.mlp.down: group size 64 does not divide K=96") !=
        std::string::npos);
  CHECK(status.message().find("mlp.up") == std::string::npos);
}

TEST_CASE("quantized activations against float weights are refused") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w16a16");
  context.recipe.scheme.activation_bits = 8;  // a scheme string could not say this
  const Status status = run_passes({"assign-schemes"}, module, context);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("layers.0.attn.q: scheme w16a8") != std::string::npos);
}

TEST_CASE("an override cannot set attention widths") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  context.recipe.overrides = {{"*", *quant::parse_scheme("w4a8-kv4")}};
  const Status status = run_passes({"assign-schemes"}, module, context);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("override '*': scheme w4a8-kv4 sets kv or q bits") !=
        std::string::npos);
}

}  // namespace abq::passes::testing
