#include "passes/allocation/choose_schemes.h"

#include <doctest/doctest.h>

#include "tests/passes/test_model.h"

namespace abq::passes {
namespace {

using testing::context_for;
using testing::make_test_model;
using testing::run_passes;

std::vector<WeightWidth> widths(std::initializer_list<const char*> texts) {
  std::vector<WeightWidth> all;
  for (const char* text : texts) {
    const auto width = parse_weight_width(text);
    REQUIRE_MESSAGE(width.ok(), width.status().to_string());
    all.push_back(*width);
  }
  return all;
}

// The units of the test model under a recipe.
Result<std::vector<CandidateUnit>> units_of(PassContext& context,
                                            std::span<const WeightWidth> widths,
                                            bool split_units = false) {
  ir::Module module = make_test_model();
  REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, context).ok());
  return find_candidates(module, context.recipe, context.layer_schemes, widths, split_units);
}

std::vector<std::string> names_of(const CandidateUnit& unit) {
  std::vector<std::string> names;
  for (const CandidateUnit::Layer& layer : unit.layers)
    names.push_back(layer.name);
  return names;
}

// Bytes as bits, KL as 4^-bits times `weight` of the unit.
std::vector<quant::UnitAllocation> allocations(const std::vector<CandidateUnit>& candidates,
                                               double first_weight) {
  std::vector<quant::UnitAllocation> units;
  for (size_t i = 0; i < candidates.size(); ++i) {
    quant::UnitAllocation& unit = units.emplace_back();
    unit.layers = names_of(candidates[i]);
    for (const quant::Scheme& scheme : candidates[i].schemes)
      unit.choices.push_back(
          {quant::to_string(scheme), scheme.weights.bits,
           (i == 0 ? first_weight : 1) / static_cast<double>(1 << (2 * scheme.weights.bits))});
  }
  return units;
}

}  // namespace

TEST_CASE("widths are written as in schemes, and others are refused") {
  CHECK(parse_weight_width("8")->bits == 8);
  CHECK_FALSE(parse_weight_width("2")->balanced);
  CHECK(parse_weight_width("2b")->balanced);
  CHECK(parse_weight_width("1b")->bits == 1);
  for (const char* text : {"", "b", "0", "9", "16", "3b", "2bb", "w2", "2 "}) {
    CAPTURE(text);
    const auto width = parse_weight_width(text);
    REQUIRE_FALSE(width.ok());
    CHECK(width.status().message() == fmt::format("width '{}': expected 1 to 8, 1b or 2b", text));
  }
}

TEST_CASE("layers that read one value make one unit, unless units are split") {
  PassContext context = context_for("w4a8-g32-kv8");
  const auto units = units_of(context, widths({"2b", "3"}));
  REQUIRE_MESSAGE(units.ok(), units.status().to_string());
  REQUIRE(units->size() == 8);
  CHECK(names_of(units->at(0)) ==
        std::vector<std::string>{"layers.0.attn.q", "layers.0.attn.k", "layers.0.attn.v"});
  CHECK(names_of(units->at(2)) == std::vector<std::string>{"layers.0.mlp.gate", "layers.0.mlp.up"});
  CHECK(units->at(2).weights() == 2 * testing::kFfn * testing::kHidden);
  REQUIRE(units->at(7).schemes.size() == 2);
  CHECK(quant::to_string(units->at(7).schemes[0]) == "w2ba8-g32");
  CHECK(quant::to_string(units->at(7).schemes[1]) == "w3a8-g32");
  CHECK(units_of(context, widths({"2b", "3"}), true)->size() == 14);
}

TEST_CASE("a layer that an override names keeps the override's scheme") {
  PassContext context = context_for("w4a8");
  context.recipe.overrides = {{"layers.*.mlp.gate", *quant::parse_scheme("w2ba8")}};
  const auto units = units_of(context, widths({"2", "3"}));
  REQUIRE_MESSAGE(units.ok(), units.status().to_string());
  REQUIRE(units->size() == 10);
  const CandidateUnit& gate = units->at(2);
  CHECK(names_of(gate) == std::vector<std::string>{"layers.0.mlp.gate"});
  CHECK(gate.given);
  REQUIRE(gate.schemes.size() == 1);
  CHECK(quant::to_string(gate.schemes[0]) == "w2ba8");
  CHECK(names_of(units->at(3)) == std::vector<std::string>{"layers.0.mlp.up"});
}

TEST_CASE("no widths are refused") {
  PassContext context = context_for("w4a8");
  CHECK(units_of(context, {}).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("the sensitive unit gets the bits, within the budget of bytes or of KL") {
  PassContext context = context_for("w4a8");
  const auto candidates = units_of(context, widths({"2", "3", "4"}));
  std::vector<quant::UnitAllocation> units = allocations(*candidates, 20);
  REQUIRE(choose_schemes({AllocationBudget::Kind::kBytes, 18}, units));
  CHECK(units[0].chosen == 2);
  for (size_t i = 1; i < units.size(); ++i)
    CHECK(units[i].chosen == 0);
  CHECK(sums_of(units).bytes == 18);
  const double kl = sums_of(units).kl;
  REQUIRE(choose_schemes({AllocationBudget::Kind::kKl, kl}, units));
  CHECK(sums_of(units).bytes == 18);
  CHECK_FALSE(choose_schemes({AllocationBudget::Kind::kBytes, 15}, units));
  CHECK(sums_of(units).bytes == 16);
}

TEST_CASE("the recipe of a choice asks for it layer by layer") {
  PassContext context = context_for("w4a8-kv8");
  context.recipe.overrides = {{"layers.1.mlp.down", *quant::parse_scheme("w8a8")}};
  const auto candidates = units_of(context, widths({"2b", "3", "4"}));
  std::vector<quant::UnitAllocation> units = allocations(*candidates, 1);
  for (quant::UnitAllocation& unit : units)
    unit.chosen = unit.choices.size() == 1 ? 0 : 1;
  units[0].chosen = 0;
  const quant::Recipe recipe = recipe_with_choices(context.recipe, *candidates, units);
  CHECK(quant::to_string(recipe.scheme) == "w3a8-kv8");
  CHECK(recipe.overrides.size() == 4);

  PassContext again;
  again.recipe = recipe;
  ir::Module module = make_test_model();
  REQUIRE(run_passes({"assign-schemes", "balance-bits"}, module, again).ok());
  for (size_t i = 0; i < units.size(); ++i)
    for (const std::string& layer : units[i].layers)
      CHECK(again.layer_schemes.at(layer) ==
            candidates->at(i).schemes[static_cast<size_t>(units[i].chosen)]);
}

}  // namespace abq::passes
