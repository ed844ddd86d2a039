// SmoothQuant (Xiao et al., arXiv 2211.10438) on every site of a block where a channel scale s can
// be folded into the weights on both sides, so that the float function stays what it was:
//
//   norm -> {q, k, v}, norm -> {gate, up}    norm weight / s    linear columns * s
//   v -> o, shared by a kv head's queries    v rows / s         o columns * s
//   up -> down                               up rows / s        down columns * s
//
//   s = max|x|^alpha / max|W_col|^(1 - alpha), both maxima >= 1e-5, s >= 1e-2
//
// max|x| over the calibration tokens, max|W_col| over all linears that read the input. q and k
// share a scale of 1: the method learns it elsewhere, plain smoothing leaves it. Changed weights
// are f32.
#include <algorithm>
#include <cmath>

#include "ir/patterns.h"
#include "passes/channel_statistics.h"
#include "passes/layers.h"
#include "passes/passes.h"

namespace abq::passes {
namespace {

constexpr float kMinMaximum = 1e-5f;
constexpr float kMinSmoothScale = 1e-2f;

class Smoother {
 public:
  Smoother(ir::Module& module, ir::Block& block, PassContext& context)
      : module_(module), block_(block), context_(context) {}

  Status smooth_norm(const ir::NormSite& site) {
    ABQ_ASSIGN_OR_RETURN(const std::vector<float> scales, start_scales(site.linears));
    ABQ_RETURN_IF_ERROR(scale_vector(node(site.norm), scales));
    for (int linear : site.linears)
      ABQ_RETURN_IF_ERROR(scale_columns(node(linear), scales));
    return {};
  }

  Status smooth_value_output(const ir::ValueOutputSite& site) {
    ABQ_ASSIGN_OR_RETURN(const std::vector<float> wanted, start_scales({site.output}));
    const ir::Node& attention = node(site.attention);
    const auto heads = static_cast<size_t>(attention.int_attribute("heads"));
    const auto kv_heads = static_cast<size_t>(attention.int_attribute("kv_heads"));
    const auto head_dim = static_cast<size_t>(attention.int_attribute("head_dim"));
    const size_t group = heads / kv_heads;
    std::vector<float> value_scales(kv_heads * head_dim);
    std::vector<float> output_scales(heads * head_dim);
    for (size_t head = 0; head < heads; ++head)
      for (size_t d = 0; d < head_dim; ++d) {
        const size_t kv_head = head / group;
        // The first query head of the group speaks for all of it.
        const float scale = wanted[kv_head * group * head_dim + d];
        value_scales[kv_head * head_dim + d] = scale;
        output_scales[head * head_dim + d] = scale;
      }
    ABQ_RETURN_IF_ERROR(divide_rows(node(site.value), value_scales));
    return scale_columns(node(site.output), output_scales);
  }

  Status smooth_up_down(const ir::UpDownSite& site) {
    ABQ_ASSIGN_OR_RETURN(const std::vector<float> scales, start_scales({site.down}));
    ABQ_RETURN_IF_ERROR(divide_rows(node(site.up), scales));
    return scale_columns(node(site.down), scales);
  }

 private:
  const ir::Node& node(int index) const { return block_.nodes[static_cast<size_t>(index)]; }

  Result<std::vector<float>> start_scales(const std::vector<int>& linears) const {
    const std::string& first = node(linears.front()).name;
    const auto statistics = context_.input_statistics.find(first);
    if (statistics == context_.input_statistics.end())
      return invalid_argument("{}: no input statistics; run calibrate before smooth", first);
    const std::vector<float>& max_input = statistics->second.max_abs;
    std::vector<float> max_weight(max_input.size(), kMinMaximum);
    for (int linear : linears) {
      ABQ_ASSIGN_OR_RETURN(const std::vector<float> weight,
                           load_finite_weight(module_, block_, node(linear).operands[1]));
      for (size_t i = 0; i < weight.size(); i += max_weight.size())
        for (size_t c = 0; c < max_weight.size(); ++c)
          max_weight[c] = std::max(max_weight[c], std::fabs(weight[i + c]));
    }
    const auto alpha = static_cast<float>(context_.recipe.smooth_alpha);
    std::vector<float> scales(max_input.size());
    for (size_t c = 0; c < scales.size(); ++c) {
      const float scale = std::pow(std::max(max_input[c], kMinMaximum), alpha) /
                          std::pow(max_weight[c], 1.0f - alpha);
      scales[c] = std::max(scale, kMinSmoothScale);
    }
    return scales;
  }

  // Loads the weight, lets `change` rewrite it and stores it as f32 under its old name.
  template <class Change>
  Status rewrite(ir::ValueId value, const Change& change) {
    const std::string name = module_.weight_name(block_, value);
    if (block_.users(value).size() != 1)
      return unsupported("{}: has more than one reader, so no scale can be folded into it", name);
    ABQ_ASSIGN_OR_RETURN(std::vector<float> values, load_finite_weight(module_, block_, value));
    change(values);
    module_.replace_weight(block_, value, ir::make_f32_tensor(block_.type(value).shape, values));
    return {};
  }

  Status scale_vector(const ir::Node& norm, const std::vector<float>& scales) {
    return rewrite(norm.operands[1], [&](std::vector<float>& values) {
      for (size_t c = 0; c < scales.size(); ++c)
        values[c] /= scales[c];
    });
  }

  Status divide_rows(const ir::Node& linear, const std::vector<float>& scales) {
    return rewrite(linear.operands[1], [&](std::vector<float>& values) {
      const size_t columns = values.size() / scales.size();
      for (size_t i = 0; i < values.size(); ++i)
        values[i] /= scales[i / columns];
    });
  }

  // Also brings the linear's input statistics up to date: its input is divided by the scales.
  Status scale_columns(const ir::Node& linear, const std::vector<float>& scales) {
    divide_channels(context_.input_statistics.at(linear.name), scales);
    return rewrite(linear.operands[1], [&](std::vector<float>& values) {
      for (size_t i = 0; i < values.size(); i += scales.size())
        for (size_t c = 0; c < scales.size(); ++c)
          values[i + c] *= scales[c];
    });
  }

  ir::Module& module_;
  ir::Block& block_;
  PassContext& context_;
};

struct Smooth : BlockPass {
  Status run(ir::Module& module, ir::Block& block, PassContext& context) override {
    if (!context.calibrated())
      return invalid_argument("smooth needs calibration text; give --calib FILE");
    const double alpha = context.recipe.smooth_alpha;
    if (!(alpha >= 0 && alpha <= 1))
      return invalid_argument("smooth alpha: expected 0 to 1, got {}", alpha);
    Smoother smoother(module, block, context);
    for (const ir::NormSite& site : ir::find_norm_sites(block))
      ABQ_RETURN_IF_ERROR(smoother.smooth_norm(site));
    for (const ir::ValueOutputSite& site : ir::find_value_output_sites(block))
      ABQ_RETURN_IF_ERROR(smoother.smooth_value_output(site));
    for (const ir::UpDownSite& site : ir::find_up_down_sites(block))
      ABQ_RETURN_IF_ERROR(smoother.smooth_up_down(site));
    return {};
  }
};

}  // namespace

std::unique_ptr<Pass> create_smooth() {
  return std::make_unique<Smooth>();
}

}  // namespace abq::passes
