#include "passes/scheme_resolution.h"

#include <doctest/doctest.h>

namespace abq::passes {

TEST_CASE("patterns are shell style: * crosses dots, ? is one character") {
  CHECK(pattern_matches("layers.*.down", "layers.13.mlp.down"));
  CHECK(pattern_matches("layers.?.mlp.*", "layers.3.mlp.up"));
  CHECK(!pattern_matches("layers.?.mlp.*", "layers.13.mlp.up"));
  CHECK(!pattern_matches("down", "layers.3.mlp.down"));
}

TEST_CASE("the last override that matches wins, and attention widths stay out of a layer") {
  quant::Recipe recipe;
  recipe.scheme = *quant::parse_scheme("w4a4-kv4-q4");
  recipe.overrides = {{"*.down", *quant::parse_scheme("w8a8")},
                      {"layers.1.*", *quant::parse_scheme("w2ba8")}};
  CHECK(quant::to_string(requested_scheme(recipe, "layers.0.mlp.up")) == "w4a4");
  CHECK(quant::to_string(requested_scheme(recipe, "layers.0.mlp.down")) == "w8a8");
  CHECK(quant::to_string(requested_scheme(recipe, "layers.1.mlp.down")) == "w2ba8");
}

TEST_CASE("near names are those with the least edit distance") {
  const std::vector<std::string> names = {"layers.0.attn.q", "layers.0.mlp.up", "layers.0.mlp.down",
                                          "layers.1.mlp.down"};
  CHECK(nearest_names("layers.0.mlp.dwn", names, 2) ==
        std::vector<std::string>{"layers.0.mlp.down", "layers.1.mlp.down"});
  CHECK(nearest_names("x", {}, 3).empty());
}

}  // namespace abq::passes
