#include <doctest/doctest.h>

#include <limits>

#include "backend/backend.h"

using namespace abq;

namespace {

std::string refusal(const std::string& json) {
  const auto recipe = backend::recipe_from_json(json, "r.json");
  REQUIRE(!recipe.ok());
  CHECK(recipe.status().code() == StatusCode::kInvalidArgument);
  CHECK(recipe.status().message().starts_with("r.json: "));
  return recipe.status().message();
}

bool contains(const std::string& text, const std::string& part) {
  CAPTURE(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a recipe survives its stored form") {
  quant::Recipe recipe;
  recipe.scheme = *quant::parse_scheme("w2ba8-g128-kv8-q8");
  recipe.method = "smooth";
  recipe.clip_search = true;
  recipe.smooth_alpha = 0;
  recipe.calibration = {.windows = 3, .context = 256};
  recipe.overrides.push_back({"layers.*.mlp.down", *quant::parse_scheme("w4a8")});
  recipe.seed = 7;
  proto::Recipe stored;
  backend::to_proto(recipe, &stored);
  const auto back = backend::from_proto(stored);
  REQUIRE_MESSAGE(back.ok(), back.status().to_string());
  CHECK(back->scheme == recipe.scheme);
  CHECK(back->method == "smooth");
  CHECK(back->clip_search);
  CHECK(back->smooth_alpha == 0);
  CHECK(back->calibration.windows == 3);
  CHECK(back->calibration.context == 256);
  REQUIRE(back->overrides.size() == 1);
  CHECK(back->overrides[0].pattern == "layers.*.mlp.down");
  CHECK(back->overrides[0].scheme == recipe.overrides[0].scheme);
  CHECK(back->seed == 7);
  CHECK_FALSE(back->rotation);
}

TEST_CASE("a recipe's rotation survives its stored form and says what it leaves out") {
  quant::Recipe recipe;
  recipe.scheme = *quant::parse_scheme("w4a4");
  for (const auto residual :
       {quant::ResidualRotation::kHadamard, quant::ResidualRotation::kOrthogonal,
        quant::ResidualRotation::kNone}) {
    recipe.rotation = quant::RotationSettings{.residual = residual,
                                              .value_output = false,
                                              .query_key = true,
                                              .down = false,
                                              .down_size = 64,
                                              .half_tables = false};
    const auto back = backend::recipe_from_json(backend::recipe_to_json(recipe), "r.json");
    REQUIRE_MESSAGE(back.ok(), back.status().to_string());
    REQUIRE(back->rotation);
    CHECK(back->rotation->residual == residual);
    CHECK_FALSE(back->rotation->value_output);
    CHECK(back->rotation->query_key);
    CHECK_FALSE(back->rotation->down);
    CHECK(back->rotation->down_size == 64);
    CHECK_FALSE(back->rotation->half_tables);
  }
  const auto defaults =
      backend::recipe_from_json(R"({"scheme": "w4a4", "rotation": {}})", "r.json");
  REQUIRE(defaults->rotation);
  CHECK(defaults->rotation->residual == quant::ResidualRotation::kHadamard);
  CHECK(defaults->rotation->down);
  CHECK(contains(refusal(R"({"scheme": "w4a4", "rotation": {"residual": "cayley"}})"),
                 "rotation: residual is 'cayley', expected hadamard, orthogonal, none"));
  CHECK(contains(refusal(R"({"scheme": "w4a4", "rotation": {"down_size": -2}})"),
                 "down_size is -2, expected 2 or more"));
  CHECK(contains(refusal(R"({"scheme": "w4a4", "rotation": {"down_size": 1}})"),
                 "\"down\": false leaves the transform out"));
}

TEST_CASE("a recipe file leaves out what it does not change") {
  const auto recipe = backend::recipe_from_json(R"({"scheme": "w4a8"})", "r.json");
  REQUIRE_MESSAGE(recipe.ok(), recipe.status().to_string());
  const quant::Recipe defaults;
  CHECK(recipe->scheme == *quant::parse_scheme("w4a8"));
  CHECK(recipe->method.empty());
  CHECK(recipe->smooth_alpha == defaults.smooth_alpha);
  CHECK(recipe->calibration.windows == defaults.calibration.windows);
  CHECK(recipe->calibration.context == defaults.calibration.context);
}

TEST_CASE("a recipe file is read in both spellings of field names") {
  const auto recipe = backend::recipe_from_json(
      R"({"scheme": "w4a8", "clip_search": true, "smoothAlpha": 0.25,
          "overrides": [{"pattern": "*.down", "scheme": "w8a8"}]})",
      "r.json");
  REQUIRE_MESSAGE(recipe.ok(), recipe.status().to_string());
  CHECK(recipe->clip_search);
  CHECK(recipe->smooth_alpha == 0.25);
  CHECK(recipe->overrides.size() == 1);
}

TEST_CASE("an unknown field of a recipe file is refused with its name") {
  CHECK(contains(refusal(R"({"scheme": "w4a8", "clip_serach": true})"), "clip_serach"));
  CHECK(contains(refusal(R"({"scheme": "w4a8", "overrides": [{"patern": "x"}]})"), "patern"));
}

TEST_CASE("bad values of a recipe file are refused") {
  CHECK(contains(refusal("{"), "r.json"));
  CHECK(contains(refusal("[]"), "r.json"));
  CHECK(contains(refusal("{}"), "scheme is missing"));
  CHECK(contains(refusal(R"({"scheme": "w9z"})"), "w9z"));
  CHECK(contains(refusal(R"({"scheme": "w4a8", "clip_search": "maybe"})"), "clip_search"));
  CHECK(contains(refusal(R"({"scheme": "w4a8", "smooth_alpha": 2})"), "smooth_alpha is 2"));
  CHECK(contains(refusal(R"({"scheme": "w4a8", "calibration": {"windows": -1}})"), "-1 windows"));
  CHECK(contains(refusal(R"({"scheme": "w4a8", "overrides": [{"scheme": "w8a8"}]})"),
                 "overrides[0]: pattern is missing"));
  CHECK(contains(refusal(R"({"scheme": "w4a8", "overrides": [{"pattern": "x", "scheme": "?"}]})"),
                 "overrides[0]: x: scheme"));
  CHECK(contains(
      refusal(R"({"scheme": "w4a8", "overrides": [{"pattern": "x", "scheme": "w8a8-kv8"}]})"),
      "hold for the whole model"));
}

TEST_CASE("a report survives its stored form") {
  quant::Report report;
  quant::LayerReport layer;
  layer.name = "layers.0.mlp.down";
  layer.scheme = "w2ba8";
  layer.n = 3;
  layer.k = 5;
  layer.encoding = "base5";
  layer.packed_bytes = 11;
  layer.parameter_bytes = 7;
  layer.kernel = "cpu.int8";
  layer.weight = {std::numeric_limits<double>::infinity(), 0.5, 0.25};
  layer.clip_low = 0.5;
  layer.clip_high = 0.75;
  layer.outlier_ratio = 12;
  report.layers.push_back(layer);
  layer.output = quant::Quality{10, 0.9, 0.1};
  layer.rounding = quant::RoundingReport{0.1, 2, 3};
  report.layers.push_back(layer);
  report.notes = {"a", "b"};
  report.rotation = quant::RotationReport{"hadamard 1 x 8", 8, 5, 4, 2, 16};
  report.allocation = quant::AllocationReport{
      "3 bits", {{{"q", "k"}, {{"w2ba8", 10, 0.5}, {"w3a8", 12, 0.25}}, 1}}, 512, 0.125, 0.5, 0.75};
  report.calibration_tokens = 99;
  report.block_linear_bits = 2.4;
  report.file_bits = 6.5;
  proto::Report stored;
  backend::to_proto(report, &stored);
  const quant::Report back = backend::from_proto(stored);
  REQUIRE(back.layers.size() == 2);
  CHECK(back.layers[0].name == layer.name);
  CHECK(back.layers[0].encoding == "base5");
  CHECK(back.layers[0].packed_bytes == 11);
  CHECK(back.layers[0].parameter_bytes == 7);
  CHECK(back.layers[0].kernel == "cpu.int8");
  CHECK(back.layers[0].weight.sqnr_db == std::numeric_limits<double>::infinity());
  CHECK(back.layers[0].clip_high == 0.75);
  CHECK(!back.layers[0].output);
  REQUIRE(back.layers[1].output);
  CHECK(back.layers[1].output->cosine == 0.9);
  CHECK(!back.layers[0].rounding);
  REQUIRE(back.layers[1].rounding);
  CHECK(back.layers[1].rounding->damping == 0.1);
  CHECK(back.layers[1].rounding->loss == 2);
  CHECK(back.layers[1].rounding->nearest_loss == 3);
  CHECK(back.notes == report.notes);
  REQUIRE(back.rotation);
  CHECK(back.rotation->residual == "hadamard 1 x 8");
  CHECK(back.rotation->width == 8);
  CHECK(back.rotation->seed == 5);
  CHECK(back.rotation->value_output == 4);
  CHECK(back.rotation->query_key == 2);
  CHECK(back.rotation->down == 16);
  REQUIRE(back.allocation);
  CHECK(back.allocation->target == "3 bits");
  REQUIRE(back.allocation->units.size() == 1);
  const quant::UnitAllocation& unit = back.allocation->units[0];
  CHECK(unit.layers == std::vector<std::string>{"q", "k"});
  REQUIRE(unit.choices.size() == 2);
  CHECK(unit.choices[0].scheme == "w2ba8");
  CHECK(unit.choices[1].bytes == 12);
  CHECK(unit.choices[1].kl == 0.25);
  CHECK(unit.chosen == 1);
  CHECK(back.allocation->tokens == 512);
  CHECK(back.allocation->activation_kl == 0.125);
  CHECK(back.allocation->predicted_kl == 0.5);
  CHECK(back.allocation->measured_kl == 0.75);
  CHECK(back.calibration_tokens == 99);
  CHECK(back.block_linear_bits == 2.4);
  CHECK(back.file_bits == 6.5);
}
