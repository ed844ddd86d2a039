#include "passes/allocation/unit_rounding.h"

#include "passes/gptq_rounding.h"
#include "quant/affine.h"

namespace abq::passes {

UnitRounding::UnitRounding(const quant::Recipe& recipe)
    : compensated_(recipe.method != "rtn" && recipe.method != "smooth" && recipe.method != "abq"),
      clip_search_(recipe.clip_search || recipe.method == "abq") {}

Result<UnitRounding::Rounded> UnitRounding::round(compute::CompensatedRounder& rounder,
                                                  MatrixView<const float> w,
                                                  const quant::WeightSpec& spec) const {
  std::vector<quant::ClipRatio> clips;
  if (!compensated_) {
    clips.assign(static_cast<size_t>(w.rows * spec.groups(w.cols)), quant::ClipRatio{});
    if (clip_search_) clips = quant::search_clips(w, spec);
  }
  ABQ_ASSIGN_OR_RETURN(RoundedLayer layer, round_layer(rounder, w, spec, {clips, {}, {}}));
  Rounded rounded{std::vector<float>(static_cast<size_t>(w.rows * w.cols)),
                  compensated_ ? layer.report.loss : layer.report.nearest_loss};
  if (!compensated_) {
    ABQ_ASSIGN_OR_RETURN(layer.weights, quant::quantize_weights(w, spec, clips));
  }
  quant::dequantize_weights(layer.weights, {rounded.weights.data(), w.rows, w.cols});
  return rounded;
}

}  // namespace abq::passes
