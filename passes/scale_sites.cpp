#include "passes/scale_sites.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "ir/patterns.h"
#include "passes/channel_statistics.h"
#include "passes/layers.h"

namespace abq::passes {
namespace {

constexpr float kMinMaximum = 1e-5f;
constexpr float kMinStartScale = 1e-2f;

// "layers.0.attn.q" -> "q".
std::string last_part(const std::string& name) {
  return name.substr(name.rfind('.') + 1);
}

class SiteFinder {
 public:
  SiteFinder(const ir::Module& module, const ir::Block& block,
             const std::map<std::string, ChannelStatistics>& statistics, double alpha)
      : module_(module), block_(block), statistics_(statistics), alpha_(alpha) {}

  Result<std::vector<ScaleSite>> find() {
    for (const ir::NormSite& site : ir::find_norm_sites(block_))
      ABQ_RETURN_IF_ERROR(add_norm(site));
    for (const ir::ValueOutputSite& site : ir::find_value_output_sites(block_))
      ABQ_RETURN_IF_ERROR(add_value_output(site));
    for (const ir::UpDownSite& site : ir::find_up_down_sites(block_)) {
      // A transform in between mixes channels: no scale folds through it.
      if (site.transform < 0) ABQ_RETURN_IF_ERROR(add_up_down(site));
    }
    for (const ir::QueryKeySite& site : ir::find_query_key_sites(block_))
      add_query_key(site);
    return std::move(sites_);
  }

 private:
  using Kind = ScaleFold::Kind;

  struct Heads {
    int64_t group;  // query heads of a kv head
    int64_t kv_heads;
    int64_t head_dim;
  };

  const ir::Node& node(int index) const { return block_.nodes[static_cast<size_t>(index)]; }

  Heads heads_of(int attention) const {
    const ir::Node& shape = node(attention);
    const int64_t kv_heads = shape.int_attribute("kv_heads");
    return {shape.int_attribute("heads") / kv_heads, kv_heads, shape.int_attribute("head_dim")};
  }

  Status add_norm(const ir::NormSite& site) {
    ScaleSite added;
    std::vector<std::string> readers;
    added.folds.push_back({site.norm, Kind::kDivideVector, {}});
    for (const int linear : site.linears) {
      readers.push_back(last_part(node(linear).name));
      added.folds.push_back({linear, Kind::kMultiplyColumns, {}});
    }
    added.name = fmt::format("{} -> {}", node(site.norm).name, fmt::join(readers, ", "));
    ABQ_ASSIGN_OR_RETURN(added.start, start_scales(site.linears));
    sites_.push_back(std::move(added));
    return {};
  }

  Status add_value_output(const ir::ValueOutputSite& site) {
    const Heads heads = heads_of(site.attention);
    ABQ_ASSIGN_OR_RETURN(const std::vector<float> wanted, start_scales({site.output}));
    ScaleSite added;
    added.name = arrow(site.value, "->", site.output);
    added.folds = {{site.value, Kind::kDivideRows, {}},
                   {site.output, Kind::kMultiplyColumns, {{heads.head_dim, heads.group}}}};
    for (int64_t kv_head = 0; kv_head < heads.kv_heads; ++kv_head) {
      const auto first = wanted.begin() + kv_head * heads.group * heads.head_dim;
      added.start.insert(added.start.end(), first, first + heads.head_dim);
    }
    sites_.push_back(std::move(added));
    return {};
  }

  Status add_up_down(const ir::UpDownSite& site) {
    ScaleSite added;
    added.name = arrow(site.up, "->", site.down);
    added.folds = {{site.up, Kind::kDivideRows, {}}, {site.down, Kind::kMultiplyColumns, {}}};
    ABQ_ASSIGN_OR_RETURN(added.start, start_scales({site.down}));
    sites_.push_back(std::move(added));
    return {};
  }

  void add_query_key(const ir::QueryKeySite& site) {
    const Heads heads = heads_of(site.attention);
    const Repeat pair = {heads.head_dim / 2, 2};
    ScaleSite added;
    added.name = arrow(site.query, "<->", site.key);
    added.folds = {{site.query, Kind::kDivideRows, {pair, {heads.head_dim, heads.group}}},
                   {site.key, Kind::kMultiplyRows, {pair}}};
    added.start.assign(static_cast<size_t>(heads.kv_heads * heads.head_dim / 2), 1.0f);
    sites_.push_back(std::move(added));
  }

  std::string arrow(int from, std::string_view sign, int to) const {
    return fmt::format("{} {} {}", node(from).name, sign, last_part(node(to).name));
  }

  Result<std::vector<float>> start_scales(const std::vector<int>& linears) const {
    const std::string& first = node(linears.front()).name;
    const auto statistics = statistics_.find(first);
    if (statistics == statistics_.end())
      return invalid_argument("{}: no input statistics; run calibrate first", first);
    const std::vector<float>& max_input = statistics->second.max_abs;
    std::vector<float> max_weight(max_input.size(), kMinMaximum);
    for (const int linear : linears) {
      ABQ_ASSIGN_OR_RETURN(const std::vector<float> weight,
                           load_finite_weight(module_, block_, node(linear).operands[1]));
      for (size_t i = 0; i < weight.size(); i += max_weight.size())
        for (size_t c = 0; c < max_weight.size(); ++c)
          max_weight[c] = std::max(max_weight[c], std::fabs(weight[i + c]));
    }
    const auto alpha = static_cast<float>(alpha_);
    std::vector<float> scales(max_input.size());
    for (size_t c = 0; c < scales.size(); ++c) {
      const float scale = std::pow(std::max(max_input[c], kMinMaximum), alpha) /
                          std::pow(max_weight[c], 1.0f - alpha);
      scales[c] = std::max(scale, kMinStartScale);
    }
    return scales;
  }

  const ir::Module& module_;
  const ir::Block& block_;
  const std::map<std::string, ChannelStatistics>& statistics_;
  double alpha_;
  std::vector<ScaleSite> sites_;
};

// weight[rows, cols] op scales of its rows or columns.
void apply(ScaleFold::Kind kind, std::span<const float> scales, std::vector<float>& weight) {
  const size_t columns = weight.size() / scales.size();
  for (size_t i = 0; i < weight.size(); ++i) {
    switch (kind) {
      case ScaleFold::Kind::kDivideVector:
      case ScaleFold::Kind::kDivideRows:
        weight[i] /= scales[i / columns];
        break;
      case ScaleFold::Kind::kMultiplyRows:
        weight[i] *= scales[i / columns];
        break;
      case ScaleFold::Kind::kMultiplyColumns:
        weight[i] *= scales[i % scales.size()];
        break;
    }
  }
}

}  // namespace

Result<std::vector<ScaleSite>> find_scale_sites(
    const ir::Module& module, const ir::Block& block,
    const std::map<std::string, ChannelStatistics>& statistics, double alpha) {
  return SiteFinder(module, block, statistics, alpha).find();
}

std::vector<float> repeat_scales(std::span<const float> scales, const ScaleFold& fold) {
  std::vector<float> result(scales.begin(), scales.end());
  for (const Repeat& repeat : fold.repeats) {
    const std::vector<float> from = std::move(result);
    result.clear();
    for (auto outer = from.begin(); outer != from.end(); outer += repeat.inner)
      for (int64_t r = 0; r < repeat.count; ++r)
        result.insert(result.end(), outer, outer + repeat.inner);
  }
  return result;
}

Status fold_scales(ir::Module& module, ir::Block& block, const ScaleSite& site,
                   std::span<const float> scales) {
  for (const ScaleFold& fold : site.folds) {
    const ir::ValueId weight = block.nodes[static_cast<size_t>(fold.node)].operands[1];
    ABQ_ASSIGN_OR_RETURN(std::vector<float> values, load_finite_weight(module, block, weight));
    apply(fold.kind, repeat_scales(scales, fold), values);
    module.replace_weight(block, weight, ir::make_f32_tensor(block.type(weight).shape, values));
  }
  return {};
}

void divide_statistics(const ir::Block& block, const ScaleSite& site, std::span<const float> scales,
                       std::map<std::string, ChannelStatistics>& statistics) {
  for (const ScaleFold& fold : site.folds) {
    if (fold.kind != ScaleFold::Kind::kMultiplyColumns) continue;
    const std::string& linear = block.nodes[static_cast<size_t>(fold.node)].name;
    divide_channels(statistics.at(linear), repeat_scales(scales, fold));
  }
}

}  // namespace abq::passes
