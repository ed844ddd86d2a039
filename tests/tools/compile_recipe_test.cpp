#include <doctest/doctest.h>

#include "tests/tools/cli_support.h"
#include "tools/compile.h"

namespace abq::test {
namespace {

tools::CompileOptions abq_options() {
  tools::CompileOptions options;
  options.scheme = "w4a4";
  options.method = "abq";
  return options;
}

quant::CorrectionSettings settings(const tools::CorrectionFlags& flags) {
  tools::CompileOptions options = abq_options();
  options.correction = flags;
  const auto recipe = tools::make_recipe(options);
  REQUIRE_MESSAGE(recipe.ok(), recipe.status().to_string());
  return recipe->correction;
}

std::string refusal(const tools::CompileOptions& options) {
  const auto recipe = tools::make_recipe(options);
  REQUIRE(!recipe.ok());
  CHECK(recipe.status().code() == StatusCode::kInvalidArgument);
  return recipe.status().message();
}

}  // namespace

TEST_CASE("each ablation flag turns off its part and no other") {
  const quant::CorrectionSettings defaults;
  CHECK(settings({}).akl_float == defaults.akl_float);
  CHECK(settings({.no_akl = true}).akl_float == 0);
  CHECK(settings({.no_akl = true}).dlc_float == defaults.dlc_float);
  CHECK(settings({.no_dlc = true}).dlc_float == 0);
  CHECK(settings({.no_dlc = true}).akl_float == defaults.akl_float);
  CHECK(settings({.no_compensation = true}).compensation == quant::CompensationBlocks::kNone);
  CHECK(settings({.no_compensation = true}).clips == defaults.clips);
  CHECK_FALSE(settings({.no_lwc = true}).clips);
  CHECK(settings({.no_lwc = true}).scales == defaults.scales);
  CHECK_FALSE(settings({.no_let = true}).scales);
  CHECK(settings({.no_let = true}).clips == defaults.clips);
  CHECK(settings({.mse = true}).mse_float == 1);
  CHECK(settings({.mse = true}).mse_quantized == 1);
  CHECK(settings({.mse = true}).dlc_float == defaults.dlc_float);
  CHECK(settings({.epochs = 3}).epochs == 3);
  CHECK(settings({.epochs = 3}).batch == defaults.batch);
  CHECK(settings({.batch = 2}).batch == 2);
}

TEST_CASE("a seed on the command line stands before the recipe's, 0 too") {
  tools::CompileOptions options = abq_options();
  options.correction.seed = 7;
  CHECK(tools::make_recipe(options)->seed == 7);
  options.correction.seed = 0;
  options.method = "rtn";
  check_contains(refusal(options), {"--seed"});
}

TEST_CASE("--rotate turns a recipe's model, by the recipe's settings where it has some") {
  const ScratchFolder folder;
  tools::CompileOptions options;
  options.scheme = "w4a4";
  CHECK_FALSE(tools::make_recipe(options)->rotation);
  options.rotation = "orthogonal";
  options.correction.seed = 3;
  const auto recipe = tools::make_recipe(options);
  REQUIRE_MESSAGE(recipe.ok(), recipe.status().to_string());
  REQUIRE(recipe->rotation);
  CHECK(recipe->rotation->residual == quant::ResidualRotation::kOrthogonal);
  CHECK(recipe->rotation->down);
  CHECK(recipe->seed == 3);
  options.recipe_file = folder.write(
      "r.json", R"({"scheme": "w4a4", "rotation": {"residual": "none", "down": false}})");
  options.rotation.clear();
  CHECK(tools::make_recipe(options)->rotation->residual == quant::ResidualRotation::kNone);
  options.rotation = "hadamard";
  CHECK(tools::make_recipe(options)->rotation->residual == quant::ResidualRotation::kHadamard);
  CHECK_FALSE(tools::make_recipe(options)->rotation->down);
  options.rotation = "householder";
  check_contains(refusal(options), {"householder", "hadamard, orthogonal, none"});
}

TEST_CASE("without a method: best where there is text and something to round, else rtn") {
  const ScratchFolder folder;
  tools::CompileOptions options;
  options.scheme = "w4a8";
  CHECK(tools::make_recipe(options)->method == "rtn");
  CHECK_FALSE(tools::make_recipe(options)->rotation);
  options.calibration_file = "text.txt";
  const auto best = tools::make_recipe(options);
  REQUIRE_MESSAGE(best.ok(), best.status().to_string());
  CHECK(best->method == "best");
  CHECK(best->clip_search);
  CHECK(best->correction.epochs == 10);
  REQUIRE(best->rotation);
  CHECK(best->rotation->residual == quant::ResidualRotation::kHadamard);
  options.scheme = "w16a16";
  CHECK(tools::make_recipe(options)->method == "rtn");
  options.scheme.clear();
  options.recipe_file = folder.write("r.json", R"({"scheme": "w4a8", "method": "smooth"})");
  CHECK(tools::make_recipe(options)->method == "smooth");
  options.recipe_file = folder.write(
      "mixed.json",
      R"({"scheme": "w16a16", "overrides": [{"pattern": "*.down", "scheme": "w4a16"}]})");
  CHECK(tools::make_recipe(options)->method == "best");
  options.recipe_file =
      folder.write("still.json", R"({"scheme": "w4a8", "rotation": {"residual": "none"}})");
  CHECK(tools::make_recipe(options)->rotation->residual == quant::ResidualRotation::kNone);
}

TEST_CASE("without a method, widths of 6 bits and more take gptq on a rotated model") {
  const ScratchFolder folder;
  tools::CompileOptions options;
  options.calibration_file = "text.txt";
  for (const char* scheme : {"w6a6-kv6-q6", "w8a8", "w8a16"}) {
    CAPTURE(scheme);
    options.scheme = scheme;
    const auto recipe = tools::make_recipe(options);
    REQUIRE_MESSAGE(recipe.ok(), recipe.status().to_string());
    CHECK(recipe->method == "gptq");
    CHECK(recipe->rotation);
  }
  for (const char* scheme : {"w5a8", "w8a5", "w8a8-kv4", "w8a8-kv8-q4"}) {
    CAPTURE(scheme);
    options.scheme = scheme;
    CHECK(tools::make_recipe(options)->method == "best");
  }
  options.scheme = "w8a8";
  options.correction.epochs = 3;
  CHECK(tools::make_recipe(options)->method == "best");
  options.correction.epochs = 0;
  options.restart = true;
  CHECK(tools::make_recipe(options)->method == "best");
  options.restart = false;
  options.target.bits = 7;
  CHECK(tools::make_recipe(options)->method == "best");
  options.target.bits = 0;
  options.method = "gptq";
  CHECK_FALSE(tools::make_recipe(options)->rotation);
  options.method.clear();
  options.scheme.clear();
  options.recipe_file =
      folder.write("mixed.json",
                   R"({"scheme": "w8a8", "overrides": [{"pattern": "*.down", "scheme": "w4a8"}]})");
  CHECK(tools::make_recipe(options)->method == "best");
  options.recipe_file = folder.write("fine.json", R"({"scheme": "w8a8", "seed": 3})");
  CHECK(tools::make_recipe(options)->method == "gptq");
  CHECK(tools::make_recipe(options)->rotation);
  options.recipe_file =
      folder.write("learn.json", R"({"scheme": "w8a8", "distillation": {"epochs": 1}})");
  CHECK(tools::make_recipe(options)->method == "best");
}

TEST_CASE("best takes the learning flags, but not those for what abq alone learns") {
  tools::CompileOptions options;
  options.scheme = "w4a8";
  options.method = "best";
  options.correction = {.no_akl = true, .epochs = 3, .seed = 4};
  options.work_dir = "somewhere";
  const auto recipe = tools::make_recipe(options);
  REQUIRE_MESSAGE(recipe.ok(), recipe.status().to_string());
  CHECK(recipe->correction.epochs == 3);
  CHECK(recipe->correction.akl_float == 0);
  CHECK(recipe->seed == 4);
  options.correction.no_lwc = true;
  check_contains(refusal(options), {"--no-lwc", "method abq only", "method is best"});
}

TEST_CASE("a recipe's distillation is for method best alone") {
  const ScratchFolder folder;
  tools::CompileOptions options;
  options.recipe_file = folder.write(
      "r.json", R"({"scheme": "w4a4", "method": "abq", "distillation": {"epochs": 2}})");
  check_contains(refusal(options), {"distillation", "method best", "method is abq"});
  options.recipe_file = folder.write(
      "r.json", R"({"scheme": "w4a4", "method": "best", "distillation": {"epochs": 2}})");
  CHECK(tools::make_recipe(options)->distillation.epochs == 2);
  for (const char* wrong : {R"({"epochs": -1})", R"({"batch": 0})", R"({"step_rate": 0})"}) {
    options.recipe_file = folder.write(
        "r.json",
        fmt::format(R"({{"scheme": "w4a4", "method": "best", "distillation": {}}})", wrong));
    check_contains(refusal(options), {"distillation: "});
  }
}

TEST_CASE("a recipe that sets what its learned method does not learn is refused") {
  const ScratchFolder folder;
  tools::CompileOptions options;
  for (const char* setting : {R"("clips": false)", R"("compensation": "all")",
                              R"("scale_rate": 0.5)", R"("clip_start": "search")"}) {
    options.recipe_file = folder.write(
        "r.json",
        fmt::format(R"({{"scheme": "w4a4", "method": "best", "correction": {{{}}}}})", setting));
    check_contains(refusal(options), {options.recipe_file, "not for method best", "leave it out"});
  }
  options.recipe_file = folder.write(
      "r.json", R"({"scheme": "w4a4", "method": "abq", "correction": {"code_rate": 0.5}})");
  check_contains(refusal(options), {"a rate of codes", "not for method abq"});
  // What both learn by is for both.
  options.recipe_file = folder.write(
      "r.json",
      R"({"scheme": "w4a4", "method": "best", "correction": {"mse_float": 1, "batch": 2}})");
  CHECK(tools::make_recipe(options).ok());
}

TEST_CASE("clip search is refused with method abq, which would not use it") {
  tools::CompileOptions options = abq_options();
  options.clip_search = true;
  check_contains(refusal(options), {"clip search", "clip_start"});
}

TEST_CASE("flags of method abq are refused with any other method") {
  tools::CompileOptions options = abq_options();
  options.method = "smooth";
  options.correction = {.no_akl = true, .epochs = 4};
  check_contains(refusal(options), {"--no-akl, --epochs", "method is smooth", "--method abq"});
  options.method.clear();
  check_contains(refusal(options), {"method is rtn"});
  options.correction = {};
  options.work_dir = "somewhere";
  options.restart = true;
  check_contains(refusal(options), {"--work-dir, --restart", "method is rtn"});
}

TEST_CASE("flags that leave nothing to learn by are refused") {
  tools::CompileOptions options = abq_options();
  options.correction = {.no_akl = true, .no_dlc = true};
  check_contains(refusal(options), {"every loss term has weight 0"});
  options.correction.mse = true;
  CHECK(tools::make_recipe(options).ok());
}

TEST_CASE("the command line changes what a recipe says of learning") {
  const ScratchFolder folder;
  tools::CompileOptions options;
  options.recipe_file = folder.write(
      "r.json",
      R"({"scheme": "w4a4", "method": "abq", "correction": {"epochs": 9, "batch": 8, "micro_batch": 4}})");
  options.correction.epochs = 2;
  const auto recipe = tools::make_recipe(options);
  REQUIRE_MESSAGE(recipe.ok(), recipe.status().to_string());
  CHECK(recipe->correction.epochs == 2);
  CHECK(recipe->correction.batch == 8);
  options.correction.batch = 6;
  check_contains(refusal(options), {"micro_batch 4 does not divide batch 6"});
}

TEST_CASE("a recipe that says how to learn for a method that does not is refused") {
  const ScratchFolder folder;
  tools::CompileOptions options;
  options.recipe_file =
      folder.write("r.json", R"({"scheme": "w4a4", "correction": {"epochs": 9}})");
  check_contains(refusal(options), {options.recipe_file, "method is rtn", "abq"});
  // To compare methods by one recipe, the command line may name another.
  options.method = "rtn";
  CHECK(tools::make_recipe(options).ok());
  options.method = "abq";
  const auto recipe = tools::make_recipe(options);
  REQUIRE(recipe.ok());
  CHECK(recipe->correction.epochs == 9);
}

}  // namespace abq::test
