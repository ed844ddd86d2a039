#include "tools/block_report_text.h"

#include <doctest/doctest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/tools/cli_support.h"

namespace abq::test {
namespace {

proto::Report report_of_two_blocks() {
  proto::Report report;
  for (int i = 0; i < 2; ++i) {
    const std::string name = "layers." + std::to_string(i);
    for (const double clip : {0.5, 0.75}) {
      proto::LayerReport& layer = *report.add_layers();
      layer.set_name(name + (clip == 0.5 ? ".attn.q" : ".mlp.down"));
      layer.set_clip_low(clip);
      layer.set_clip_high(1);
    }
    proto::BlockReport& block = *report.add_blocks();
    block.set_name(name);
    for (const double total : {0.875, 0.625, 0.375}) {
      proto::LossParts& epoch = *block.add_epochs();
      epoch.set_total(total);
      epoch.set_dlc(total / 2);
    }
    block.mutable_rounding()->set_total(1.5);
    block.mutable_learned()->set_total(0.375);
    block.set_learned_kept(i == 0);
    block.set_attention_divergence_before(0.25);
    block.set_attention_divergence_after(0.125);
    block.set_compensation_norm(0.0625);
    proto::ScaleReport& scale = *block.add_scales();
    scale.set_site(name + ".input_norm -> q, k, v");
    scale.set_min(0.5);
    scale.set_median(1.25);
    scale.set_max(7);
  }
  report.mutable_blocks(1)->add_events("loss not finite at step 3: rates halved");
  return report;
}

}  // namespace

TEST_CASE("the table of blocks says losses and divergences and what was kept") {
  const std::string text = tools::blocks_text(report_of_two_blocks());
  check_contains(field(text, "layers.0"), {"1.5 -> 0.375", "0.250", "0.25 -> 0.125", "0.625/1.000",
                                           "0.0625", "learned", "█▅▁"});
  check_contains(field(text, "layers.1"), {"plain rounding"});
  check_contains(text, {"note: loss not finite at step 3", "learned scales of",
                        "layers.0  input_norm -> q, k, v", "0.5", "1.25"});
}

TEST_CASE("learned rounding shows the codes that moved, and distillation its divergence") {
  proto::Report report = report_of_two_blocks();
  for (proto::LayerReport& layer : *report.mutable_layers())
    layer.mutable_rounding()->set_loss(1);
  for (proto::BlockReport& block : *report.mutable_blocks())
    block.set_changed_codes(0.0625);
  CHECK(tools::distillation_json(report).is_null());
  proto::DistillationReport& distillation = *report.mutable_distillation();
  distillation.set_before(0.25);
  distillation.set_after(0.125);
  distillation.set_kept(true);
  for (const double epoch : {0.25, 0.1875, 0.125})
    distillation.add_epochs(epoch);
  const std::string text = tools::blocks_text(report);
  check_contains(text, {"moved",
                        "distilled: KL from the float model's next token 0.2500 -> 0.1250 "
                        "nats, kept  █▅▁"});
  CHECK(text.find("comp.") == std::string::npos);
  check_contains(field(text, "layers.0"), {"6.2 %", "learned"});
  check_contains(field(text, "layers.1"), {"gptq's"});
  CHECK(tools::distillation_json(report)["kl_after"] == 0.125);
  CHECK(tools::blocks_json(report)[0]["changed_codes"] == 0.0625);
}

TEST_CASE("a report without learned blocks has no table of them") {
  proto::Report report = report_of_two_blocks();
  report.clear_blocks();
  CHECK(tools::blocks_text(report).empty());
  CHECK(tools::blocks_json(report).empty());
}

TEST_CASE("the JSON of blocks holds loss curves and scales and events") {
  proto::Report report = report_of_two_blocks();
  report.mutable_blocks(1)->mutable_learned()->set_total(std::numeric_limits<double>::quiet_NaN());
  const nlohmann::ordered_json blocks = tools::blocks_json(report);
  REQUIRE(blocks.size() == 2);
  CHECK(blocks[0]["name"] == "layers.0");
  CHECK(blocks[0]["learned_kept"] == true);
  CHECK(blocks[0]["loss_rounding"]["total"] == 1.5);
  CHECK(blocks[0]["loss_learned"]["total"] == 0.375);
  REQUIRE(blocks[0]["loss_epochs"].size() == 3);
  CHECK(blocks[0]["loss_epochs"][2]["total"] == 0.375);
  CHECK(blocks[0]["loss_epochs"][2]["dlc"] == 0.1875);
  CHECK(blocks[0]["attention_divergence_after"] == 0.125);
  CHECK(blocks[0]["scales"][0]["site"] == "layers.0.input_norm -> q, k, v");
  CHECK(blocks[0]["scales"][0]["max"] == 7);
  CHECK(blocks[0]["clip_low"] == 0.625);
  CHECK(blocks[0]["compensation_norm"] == 0.0625);
  CHECK(blocks[1]["learned_kept"] == false);
  CHECK(blocks[1]["loss_learned"]["total"].is_null());
  CHECK(blocks[1]["events"][0] == "loss not finite at step 3: rates halved");
}

TEST_CASE("a sparkline goes from the lowest to the highest bar") {
  CHECK(tools::sparkline(std::vector<double>{}, 10).empty());
  CHECK(tools::sparkline(std::vector<double>{2, 2}, 10) == "▁▁");
  CHECK(tools::sparkline(std::vector<double>{7, 0, 3}, 10) == "█▁▄");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(tools::sparkline(std::vector<double>{1, nan, 0}, 10) == "█?▁");
  // Six values in three columns: means of pairs.
  CHECK(tools::sparkline(std::vector<double>{14, 14, 0, 0, 3, 9}, 3) == "█▁▄");
}

}  // namespace abq::test
