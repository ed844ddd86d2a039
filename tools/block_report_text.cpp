#include "tools/block_report_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

namespace abq::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kCurveColumns = 20;

// Means over the layers of one block.
struct ClipMeans {
  double low = 1;
  double high = 1;
};

ClipMeans clip_means(const proto::Report& report, const proto::BlockReport& block) {
  ClipMeans sum{0, 0};
  int64_t layers = 0;
  for (const proto::LayerReport& layer : report.layers()) {
    if (!layer.name().starts_with(block.name() + ".")) continue;
    sum.low += layer.clip_low();
    sum.high += layer.clip_high();
    ++layers;
  }
  if (layers == 0) return {};
  const auto count = static_cast<double>(layers);
  return {sum.low / count, sum.high / count};
}

std::vector<double> loss_curve(const proto::BlockReport& block) {
  std::vector<double> totals;
  for (const proto::LossParts& epoch : block.epochs())
    totals.push_back(epoch.total());
  return totals;
}

std::string ratio_text(double before, double after) {
  return before > 0 ? fmt::format("{:.3f}", after / before) : std::string("-");
}

// Learned rounding moves the codes that GPTQ chose; distribution correction has none, and
// compensation vectors instead.
bool learned_rounding(const proto::Report& report) {
  return std::any_of(report.layers().begin(), report.layers().end(),
                     [](const proto::LayerReport& layer) { return layer.has_rounding(); });
}

void append_block(const proto::Report& report, const proto::BlockReport& block, size_t width,
                  std::string& text) {
  const ClipMeans clips = clip_means(report, block);
  const std::string last = learned_rounding(report)
                               ? fmt::format("{:.1f} %", 100 * block.changed_codes())
                               : fmt::format("{:.4f}", block.compensation_norm());
  text +=
      fmt::format("{:<{}}  {:>9.4g} -> {:<9.4g} {:>6}  {:>9.3g} -> {:<9.3g}  {:.3f}/{:.3f}  {:>7}",
                  block.name(), width, block.rounding().total(), block.learned().total(),
                  ratio_text(block.rounding().total(), block.learned().total()),
                  block.attention_divergence_before(), block.attention_divergence_after(),
                  clips.low, clips.high, last);
  text += fmt::format("  {:<14}  {}\n",
                      block.learned_kept()       ? "learned"
                      : learned_rounding(report) ? "gptq's"
                                                 : "plain rounding",
                      sparkline(loss_curve(block), kCurveColumns));
}

// Sites carry their block's name: "layers.0.input_norm -> q, k, v".
std::string_view site_in_block(const proto::BlockReport& block, std::string_view site) {
  const std::string prefix = block.name() + ".";
  if (site.starts_with(prefix)) site.remove_prefix(prefix.size());
  return site;
}

void append_scales(const proto::Report& report, size_t width, std::string& text) {
  constexpr std::string_view kTitle = "learned scales of";
  size_t site_width = kTitle.size();
  bool any = false;
  for (const proto::BlockReport& block : report.blocks()) {
    for (const proto::ScaleReport& scale : block.scales()) {
      site_width = std::max(site_width, site_in_block(block, scale.site()).size());
      any = true;
    }
  }
  if (!any) return;
  text += fmt::format("\n{:<{}}  {:<{}}  {:>9} {:>9} {:>9}\n", "block", width, kTitle, site_width,
                      "min", "median", "max");
  for (const proto::BlockReport& block : report.blocks()) {
    for (const proto::ScaleReport& scale : block.scales()) {
      text += fmt::format("{:<{}}  {:<{}}  {:>9.4g} {:>9.4g} {:>9.4g}\n", block.name(), width,
                          site_in_block(block, scale.site()), site_width, scale.min(),
                          scale.median(), scale.max());
    }
  }
}

void append_distillation(const proto::Report& report, std::string& text) {
  if (!report.has_distillation()) return;
  const proto::DistillationReport& distillation = report.distillation();
  const std::vector<double> epochs(distillation.epochs().begin(), distillation.epochs().end());
  text += fmt::format(
      "\ndistilled: KL from the float model's next token {:.4f} -> {:.4f} nats, {}  {}\n",
      distillation.before(), distillation.after(),
      distillation.kept() ? "kept" : "not better, nothing changed",
      sparkline(epochs, kCurveColumns));
}

// JSON has no infinity and no NaN.
Json number_or_null(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json loss_json(const proto::LossParts& loss) {
  return {{"total", number_or_null(loss.total())},
          {"dlc", number_or_null(loss.dlc())},
          {"akl", number_or_null(loss.akl())},
          {"mse", number_or_null(loss.mse())}};
}

Json block_json(const proto::Report& report, const proto::BlockReport& block) {
  Json epochs = Json::array();
  for (const proto::LossParts& epoch : block.epochs())
    epochs.push_back(loss_json(epoch));
  Json scales = Json::array();
  for (const proto::ScaleReport& scale : block.scales()) {
    scales.push_back({{"site", scale.site()},
                      {"min", number_or_null(scale.min())},
                      {"median", number_or_null(scale.median())},
                      {"max", number_or_null(scale.max())}});
  }
  const ClipMeans clips = clip_means(report, block);
  return {{"name", block.name()},
          {"learned_kept", block.learned_kept()},
          {"loss_rounding", loss_json(block.rounding())},
          {"loss_learned", loss_json(block.learned())},
          {"loss_epochs", epochs},
          {"attention_divergence_before", number_or_null(block.attention_divergence_before())},
          {"attention_divergence_after", number_or_null(block.attention_divergence_after())},
          {"scales", scales},
          {"clip_low", clips.low},
          {"clip_high", clips.high},
          {"compensation_norm", number_or_null(block.compensation_norm())},
          {"changed_codes", number_or_null(block.changed_codes())},
          {"events", std::vector<std::string>(block.events().begin(), block.events().end())}};
}

// Means of `columns` stretches that cover all values.
std::vector<double> condensed(std::span<const double> values, size_t columns) {
  if (values.size() <= columns) return {values.begin(), values.end()};
  std::vector<double> means(columns);
  for (size_t i = 0; i < columns; ++i) {
    const size_t begin = i * values.size() / columns;
    const size_t end = (i + 1) * values.size() / columns;
    for (size_t j = begin; j < end; ++j)
      means[i] += values[j] / static_cast<double>(end - begin);
  }
  return means;
}

}  // namespace

std::string sparkline(std::span<const double> values, size_t columns) {
  constexpr std::array<std::string_view, 8> kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const std::vector<double> shown = condensed(values, columns);
  double lowest = HUGE_VAL;
  double highest = -HUGE_VAL;
  for (const double value : shown) {
    if (!std::isfinite(value)) continue;
    lowest = std::min(lowest, value);
    highest = std::max(highest, value);
  }
  std::string line;
  for (const double value : shown) {
    if (!std::isfinite(value)) {
      line += '?';
      continue;
    }
    const double height = highest > lowest ? (value - lowest) / (highest - lowest) : 0;
    line += kBars[static_cast<size_t>(std::lround(height * (kBars.size() - 1)))];
  }
  return line;
}

std::string blocks_text(const proto::Report& report) {
  if (report.blocks().empty()) return {};
  size_t width = 5;
  for (const proto::BlockReport& block : report.blocks())
    width = std::max(width, block.name().size());
  std::string text =
      fmt::format("\n{:<{}}  {:<29}  {:<22}  {:<11}  {:>7}  {:<14}  {}\n", "block", width,
                  "loss: start -> learned  ratio", "attention divergence", "clips lo/hi",
                  learned_rounding(report) ? "moved" : "comp.", "kept", "loss by epoch");
  for (const proto::BlockReport& block : report.blocks()) {
    append_block(report, block, width, text);
    for (const std::string& event : block.events())
      text += fmt::format("{:<{}}  note: {}\n", "", width, event);
  }
  append_scales(report, width, text);
  append_distillation(report, text);
  return text;
}

nlohmann::ordered_json distillation_json(const proto::Report& report) {
  if (!report.has_distillation()) return nullptr;
  const proto::DistillationReport& distillation = report.distillation();
  Json epochs = Json::array();
  for (const double epoch : distillation.epochs())
    epochs.push_back(number_or_null(epoch));
  return {{"kl_before", number_or_null(distillation.before())},
          {"kl_after", number_or_null(distillation.after())},
          {"kl_epochs", epochs},
          {"kept", distillation.kept()}};
}

nlohmann::ordered_json blocks_json(const proto::Report& report) {
  Json blocks = Json::array();
  for (const proto::BlockReport& block : report.blocks())
    blocks.push_back(block_json(report, block));
  return blocks;
}

}  // namespace abq::tools
