#include <doctest/doctest.h>

#include <limits>

#include "backend/backend.h"

using namespace abq;

namespace {

Result<quant::Recipe> read(const std::string& correction) {
  return backend::recipe_from_json(
      R"({"scheme": "w4a4", "method": "abq", "correction": )" + correction + "}", "r.json");
}

void check_refused(const std::string& correction, const std::string& part) {
  CAPTURE(correction);
  const Result<quant::Recipe> recipe = read(correction);
  REQUIRE(!recipe.ok());
  CHECK(recipe.status().code() == StatusCode::kInvalidArgument);
  const std::string message = recipe.status().message();
  CAPTURE(message);
  CHECK(message.starts_with("r.json: "));
  CHECK(message.find(part) != std::string::npos);
}

void check_equal(const quant::CorrectionSettings& a, const quant::CorrectionSettings& b) {
  CHECK(a.epochs == b.epochs);
  CHECK(a.batch == b.batch);
  CHECK(a.micro_batch == b.micro_batch);
  CHECK(a.scales == b.scales);
  CHECK(a.clips == b.clips);
  CHECK(a.compensation == b.compensation);
  CHECK(a.scale_rate == b.scale_rate);
  CHECK(a.clip_rate == b.clip_rate);
  CHECK(a.compensation_rate == b.compensation_rate);
  CHECK(a.schedule == b.schedule);
  CHECK(a.clip_start == b.clip_start);
  CHECK(a.scale_start == b.scale_start);
  CHECK(a.relative_scales == b.relative_scales);
  CHECK(a.dlc_float == b.dlc_float);
  CHECK(a.dlc_quantized == b.dlc_quantized);
  CHECK(a.akl_float == b.akl_float);
  CHECK(a.akl_quantized == b.akl_quantized);
  CHECK(a.mse_float == b.mse_float);
  CHECK(a.mse_quantized == b.mse_quantized);
}

// No field at its default, none equal to another.
quant::CorrectionSettings unusual_settings() {
  quant::CorrectionSettings settings;
  settings.epochs = 40;
  settings.batch = 6;
  settings.micro_batch = 3;
  settings.scales = !settings.scales;
  settings.clips = !settings.clips;
  settings.compensation = quant::CompensationBlocks::kAll;
  settings.scale_rate = 0.125;
  settings.clip_rate = 0.25;
  settings.compensation_rate = 0.375;
  settings.schedule = settings.schedule == quant::RateSchedule::kCosine
                          ? quant::RateSchedule::kConstant
                          : quant::RateSchedule::kCosine;
  settings.clip_start = settings.clip_start == quant::ClipStart::kSearch
                            ? quant::ClipStart::kWide
                            : quant::ClipStart::kSearch;
  settings.scale_start = 0.75;
  settings.relative_scales = !settings.relative_scales;
  settings.dlc_float = 0.5;
  settings.dlc_quantized = 0.625;
  settings.akl_float = 2;
  settings.akl_quantized = 5;
  settings.mse_float = 3;
  settings.mse_quantized = 4;
  return settings;
}

}  // namespace

TEST_CASE("correction settings survive their stored form and their JSON") {
  quant::Recipe recipe;
  recipe.scheme = *quant::parse_scheme("w2ba8");
  recipe.method = "abq";
  for (const quant::CorrectionSettings& settings :
       {quant::CorrectionSettings(), unusual_settings()}) {
    recipe.correction = settings;
    proto::Recipe stored;
    backend::to_proto(recipe, &stored);
    const auto back = backend::from_proto(stored);
    REQUIRE_MESSAGE(back.ok(), back.status().to_string());
    check_equal(back->correction, settings);
    const std::string json = backend::recipe_to_json(recipe);
    const auto again = backend::recipe_from_json(json, "r.json");
    REQUIRE_MESSAGE(again.ok(), again.status().to_string());
    check_equal(again->correction, settings);
    CHECK(backend::recipe_to_json(*again) == json);
  }
}

TEST_CASE("the JSON of correction settings is as people write it") {
  const auto recipe = read(
      R"({"epochs": 7, "batch": 8, "micro_batch": 2, "scales": false, "compensation": "all",
          "schedule": "cosine", "clip_start": "search", "scale_rate": 0.001, "akl_float": 0,
          "mse_float": 0.5})");
  REQUIRE_MESSAGE(recipe.ok(), recipe.status().to_string());
  const quant::CorrectionSettings& settings = recipe->correction;
  const quant::CorrectionSettings defaults;
  CHECK(settings.epochs == 7);
  CHECK(settings.batch == 8);
  CHECK(settings.micro_batch == 2);
  CHECK_FALSE(settings.scales);
  CHECK(settings.clips == defaults.clips);
  CHECK(settings.compensation == quant::CompensationBlocks::kAll);
  CHECK(settings.schedule == quant::RateSchedule::kCosine);
  CHECK(settings.clip_start == quant::ClipStart::kSearch);
  CHECK(settings.scale_rate == 0.001);
  CHECK(settings.clip_rate == defaults.clip_rate);
  CHECK(settings.akl_float == 0);
  CHECK(settings.dlc_float == defaults.dlc_float);
  CHECK(settings.mse_float == 0.5);
  quant::Recipe written = *recipe;
  CHECK(backend::recipe_to_json(written).find(R"("epochs":7)") != std::string::npos);
  CHECK(backend::recipe_to_json(written).find(R"("compensation":"all")") != std::string::npos);
}

TEST_CASE("only method abq stores correction settings") {
  for (const char* method : {"rtn", "smooth"}) {
    CAPTURE(std::string(method));
    quant::Recipe recipe;
    recipe.scheme = *quant::parse_scheme("w4a8");
    recipe.method = method;
    proto::Recipe plain;
    backend::to_proto(recipe, &plain);
    recipe.correction = unusual_settings();
    proto::Recipe stored;
    backend::to_proto(recipe, &stored);
    CHECK_FALSE(stored.has_correction());
    CHECK(stored.SerializeAsString() == plain.SerializeAsString());
  }
}

TEST_CASE("a stored recipe without correction settings has the defaults") {
  proto::Recipe stored;
  stored.set_scheme("w4a4");
  stored.set_method("abq");
  const auto recipe = backend::from_proto(stored);
  REQUIRE(recipe.ok());
  check_equal(recipe->correction, quant::CorrectionSettings());
}

TEST_CASE("correction settings that nothing could learn by are refused with field and value") {
  check_refused(R"({"epochs": 0})", "epochs is 0, expected 1 to 10000");
  check_refused(R"({"epochs": 10001})", "epochs is 10001");
  check_refused(R"({"epochs": "many"})", "epochs");
  check_refused(R"({"epochs": 1e12})", "epochs");
  check_refused(R"({"batch": 0})", "batch is 0, expected at least 1");
  check_refused(R"({"batch": 4, "micro_batch": 3})", "micro_batch 3 does not divide batch 4");
  check_refused(R"({"micro_batch": -1})", "micro_batch -1");
  check_refused(R"({"scale_start": 1.5})", "scale_start is 1.5, expected 0 to 1");
  check_refused(R"({"scale_rate": 0})", "scale_rate is 0, expected a positive number");
  check_refused(R"({"clip_rate": -0.5})", "clip_rate is -0.5");
  check_refused(R"({"compensation_rate": "Infinity"})", "compensation_rate is inf");
  check_refused(R"({"scale_rate": "NaN"})", "scale_rate is nan");
  check_refused(R"({"dlc_float": -1})", "dlc_float is -1, expected 0 or a positive number");
  check_refused(R"({"akl_quantized": "Infinity"})", "akl_quantized is inf");
  check_refused(R"({"mse_float": -2})", "mse_float is -2");
  check_refused(R"({"mse_quantized": "NaN"})", "mse_quantized is nan");
  check_refused(R"({"dlc_float": 0, "dlc_quantized": 0, "akl_float": 0, "akl_quantized": 0})",
                "every loss term has weight 0");
  check_refused(R"({"schedule": "linear"})", "schedule is 'linear', expected constant, cosine");
  check_refused(R"({"compensation": "some"})", "compensation is 'some', expected none, ends, all");
  check_refused(R"({"clip_start": "Wide"})", "clip_start is 'Wide', expected wide, search");
  check_refused(R"({"epoch": 4})", "epoch");
}

TEST_CASE("block reports survive their stored form") {
  quant::BlockReport block;
  block.name = "layers.3";
  block.epochs = {{1, 2, 3, 4}, {0.5, 0.25, 0.125, 0}};
  block.rounding = {5, 6, 7, 8};
  block.learned = {std::numeric_limits<double>::infinity(), 10, 11, 12};
  block.learned_kept = false;
  block.micro_batch = 3;
  block.scales = {{"layers.3.input_norm -> q, k, v", 0.5, 1, 2},
                  {"layers.3.mlp.up -> down", 3, 4, 5}};
  block.compensation_norm = 0.01;
  block.attention_divergence_before = 0.3;
  block.attention_divergence_after = 0.2;
  block.events = {"non-finite loss at step 3", "plain rounding kept"};
  quant::Report report;
  report.blocks = {block, quant::BlockReport()};
  proto::Report stored;
  backend::to_proto(report, &stored);
  const quant::Report back = backend::from_proto(stored);
  REQUIRE(back.blocks.size() == 2);
  const quant::BlockReport& read = back.blocks[0];
  CHECK(read.name == "layers.3");
  REQUIRE(read.epochs.size() == 2);
  CHECK(read.epochs[0].total == 1);
  CHECK(read.epochs[0].dlc == 2);
  CHECK(read.epochs[0].akl == 3);
  CHECK(read.epochs[0].mse == 4);
  CHECK(read.epochs[1].total == 0.5);
  CHECK(read.rounding.mse == 8);
  CHECK(read.learned.total == block.learned.total);
  CHECK_FALSE(read.learned_kept);
  CHECK(read.micro_batch == 3);
  REQUIRE(read.scales.size() == 2);
  CHECK(read.scales[1].site == "layers.3.mlp.up -> down");
  CHECK(read.scales[1].min == 3);
  CHECK(read.scales[1].median == 4);
  CHECK(read.scales[1].max == 5);
  CHECK(read.compensation_norm == 0.01);
  CHECK(read.attention_divergence_before == 0.3);
  CHECK(read.attention_divergence_after == 0.2);
  CHECK(read.events == block.events);
  CHECK(back.blocks[1].learned_kept);
  CHECK(back.blocks[1].epochs.empty());
}
