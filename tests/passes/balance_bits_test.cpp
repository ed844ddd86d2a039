#include <doctest/doctest.h>

#include "test_model.h"

namespace abq::passes::testing {

TEST_CASE("bit balance comes from balance-bits, not from assign-schemes") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w2ba8");
  context.recipe.overrides = {{"*.down", *quant::parse_scheme("w4a8")},
                              {"layers.0.attn.o", *quant::parse_scheme("w1ba8")}};
  REQUIRE(run_passes({"assign-schemes"}, module, context).ok());
  for (const auto& [name, scheme] : context.layer_schemes)
    CHECK(!scheme.weights.balanced);

  REQUIRE(run_passes({"balance-bits"}, module, context).ok());
  CHECK(context.layer_schemes.at("layers.0.attn.q").weights.levels() == 5);
  CHECK(context.layer_schemes.at("layers.0.attn.o").weights.levels() == 3);
  CHECK(context.layer_schemes.at("layers.0.mlp.down").weights.levels() == 16);
  CHECK(context.report.notes ==
        std::vector<std::string>{"bit balance: 1 of 14 block linears have 3 levels",
                                 "bit balance: 11 of 14 block linears have 5 levels"});
}

TEST_CASE("balance-bits leaves a recipe without bit balance alone") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w2a8");
  REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, context).ok());
  for (const auto& [name, scheme] : context.layer_schemes)
    CHECK(!scheme.weights.balanced);
  CHECK(context.report.notes.empty());
}

TEST_CASE("bit balance above 2 bits is refused, all layers together") {
  ir::Module module = make_test_model();
  PassContext context = context_for("w4a8");
  context.recipe.scheme.weights.balanced = true;  // a scheme string could not say this
  const Status status = run_passes({"assign-schemes", "balance-bits"}, module, context);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("layers.0.mlp.up: bit balance needs 1 or 2 weight bits, got 4") !=
        std::string::npos);
  CHECK(status.message().find("layers.1.mlp.up") != std::string::npos);
}

}  // namespace abq::passes::testing
